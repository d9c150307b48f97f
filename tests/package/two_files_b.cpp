#include <l3/data.hpp>
#include <l3/l3net.hpp>

char const* name_of_backend_in_b() { return l3::cpu::name; }
