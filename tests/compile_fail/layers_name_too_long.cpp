// expect: a_name_of_layers_has_at_most_63_characters
#include <l3/layers/sequential.hpp>
#ifdef L3_BROKEN
using own = l3::named<"a_name_that_somebody_generates_by_machine_and_that_has_no_end_in_sight", l3::dense<3>>;
#else
using own = l3::named<"a_name_that_somebody_writes", l3::dense<3>>;
#endif
int main() { return l3::sequential<l3::features<4>, own>::parameters.size() == 2 ? 0 : 1; }
