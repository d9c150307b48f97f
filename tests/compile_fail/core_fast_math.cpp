// expect: l3 looks for numbers that are not finite
#ifdef L3_BROKEN
#undef __FINITE_MATH_ONLY__
#define __FINITE_MATH_ONLY__ 1  // as -ffast-math defines it
#endif
#include <l3/core/config.hpp>
int main() { return 0; }
