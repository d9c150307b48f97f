// expect: nobody has said what this layer is in ONNX
#include <l3/train/onnx_export.hpp>
struct own_layer {
  using input = l3::features<4>;
  using output = input;
  static constexpr auto parameters = l3::no_parameters;
  static constexpr double flops = 0;
};
struct own {
  template <class In>
  using bind = own_layer;
};
#ifdef L3_BROKEN
using net = l3::sequential<l3::features<4>, l3::relu, own>;
#else
using net = l3::sequential<l3::features<4>, l3::relu>;
#endif
int main() {
  l3::onnx_graph graph("net");
  return l3::add_to_onnx<net>(graph, "", nullptr, "x").empty();
}
