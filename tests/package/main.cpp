#include <cstdio>
#include <l3/l3net.hpp>

using net = l3::l3_network<l3::cpu, l3::paper>;
static_assert(net::frame::height == 224 && net::frame::channels == 3 && net::embedding::size == 512);
static_assert(net::sound::height == 257 && net::sound::width == 199);

int main() {
  std::printf("frame %zux%zux%zu, sound %zux%zu -> %zu numbers each, %zu learned\n", net::frame::height,
              net::frame::width, net::frame::channels, net::sound::height, net::sound::width, net::embedding::size,
              net::learned);
}
