// expect: l3: the window is taller than the image.*(High = 14; Value = 28|Value = 28; High = 14|28 <= 14)
#include <l3/core/shape.hpp>

#ifdef L3_BROKEN
constexpr int window = 28;
#else
constexpr int window = 14;
#endif
static_assert(l3::within<1, window, 14>, "l3: the window is taller than the image");

int main() {}
