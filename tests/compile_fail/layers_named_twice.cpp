// expect: to name a name, put it in a chain
#include <l3/layers/sequential.hpp>
using inner = l3::named<"inner", l3::conv3x3<4>>;
#ifdef L3_BROKEN
using outer = l3::named<"outer", inner>;
#else
using outer = l3::named<"outer", l3::chain<inner>>;
#endif
using net = l3::sequential<l3::image<8, 8, 3>, outer>;
int main() { return net::output::size == 256 ? 0 : 1; }
