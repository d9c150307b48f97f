// expect: convolutions come before global_max_pool
#include <l3/layers/sequential.hpp>
#ifdef L3_BROKEN
using net = l3::sequential<l3::image<8, 8, 3>, l3::global_max_pool, l3::conv3x3<4>>;
#else
using net = l3::sequential<l3::image<8, 8, 3>, l3::conv3x3<4>, l3::global_max_pool>;
#endif
int main() { return net::output::size == 4 ? 0 : 1; }
