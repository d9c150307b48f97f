#include <cstdio>
#include <l3/data.hpp>
#include <l3/l3net.hpp>

char const* name_of_backend_in_b();

int main() {
  l3::require_processor();
  std::printf("%s %s\n", l3::cpu::name, name_of_backend_in_b());
}
