// expect: another shape arrives here than the one stated
#include <l3/layers/sequential.hpp>
#ifdef L3_BROKEN
using stated = l3::image<8, 4, 4>;
#else
using stated = l3::image<4, 8, 4>;
#endif
using net = l3::sequential<l3::image<8, 16, 3>, l3::conv3x3<4>, l3::max_pool<>, l3::expect<stated>>;
int main() { return net::output::channels == 4 ? 0 : 1; }
