// expect: window empty or taller than the image
#include <l3/layers/sequential.hpp>
#ifdef L3_BROKEN
using net = l3::sequential<l3::image<14, 14, 3>, l3::max_pool<l3::pool{.window = {28, 2}}>>;
#else
using net = l3::sequential<l3::image<14, 14, 3>, l3::max_pool<l3::pool{.window = {14, 2}}>>;
#endif
int main() { return net::output::height == 1 ? 0 : 1; }
