/// @file  tests/train/onnx_export_test.cpp: networks of one's own as ONNX graphs. What the files compute is
/// tests/parity/export.py's business.
#include <filesystem>
#include <fstream>
#include <l3/train/onnx_export.hpp>
#include <sstream>

#include "../files/scratch.hpp"
#include "../support/catch.hpp"

using namespace l3_test;

namespace {
/// A layer that l3 does not know: y = x * gain, one gain a channel. Nothing runs it here.
template <l3::item_shape In>
struct own_scaler {
  using input = In;
  using output = In;
  static constexpr auto parameters =
      l3::lay_out(std::array{l3::parameter{"gain", l3::role::gain, {In::channels, 1, 1, 1}, 1}});
  static constexpr double flops = In::size;
};
struct own_scale {
  template <l3::item_shape In>
  using bind = own_scaler<In>;
};
using own_network = l3::sequential<l3::image<4, 5, 3>, l3::named<"first", l3::conv3x3<2, true>>,
                                   l3::named<"own", own_scale>, l3::global_max_pool, l3::dense<6>, l3::relu>;
}  // namespace

template <class In>
struct l3::onnx_form<own_scaler<In>> {
  static l3::onnx_value add(l3::onnx_graph& graph, std::string const& name, float const* params,
                            l3::onnx_value const& x) {
    std::array const dims{In::channels, std::size_t{1}, std::size_t{1}};
    return graph.add("Mul", {x, graph.constant(name + ".gain", dims, std::span(params, In::channels))}, {}, name);
  }
};

TEST_CASE("any chain of layers becomes a graph, layers of one's own too, with the names and values of its parameters") {
  scratch const here;
  std::vector<float> weights(own_network::parameter_room);
  for (l3::parameter const& p : own_network::parameters)
    for (std::size_t k = 0; k != p.count(); ++k) weights[p.offset + k] = static_cast<float>(p.offset + k);
  l3::onnx_graph graph("test");
  l3::onnx_value const x = l3::add_pictures_to_onnx<own_network::input>(graph, l3::onnx_input::prepared);
  l3::onnx_value const y = l3::add_to_onnx<own_network>(graph, "net.", weights.data(), x);
  CHECK(y == "net.4");
  graph.output(y, std::array{own_network::output::size}, "");
  graph.write(here / "net.onnx");
  std::string const file = content(here / "net.onnx");
  // In this order, as operators refer to each other's results.
  std::size_t at = 0;
  for (std::string const part : {"net.first.weight", "net.first.bias", "Conv", "net.own.gain", "Mul", "GlobalMaxPool",
                                 "Flatten", "net.3.weight", "net.3.bias", "Gemm", "transB", "net.4", "Relu"}) {
    INFO(part);
    REQUIRE((at = file.find(part, at)) != std::string::npos);
  }
  for (l3::parameter const& p : own_network::parameters) {
    INFO(p.name.view());
    std::string const values(reinterpret_cast<char const*>(weights.data() + p.offset), p.count() * sizeof(float));
    CHECK(file.find(values) != std::string::npos);
  }
}

TEST_CASE("a graph is written as Protocol Buffers write it, or not at all") {
  scratch const here;
  l3::onnx_graph graph("g");
  l3::onnx_value const x = graph.input("x", l3::onnx_type::uint8, std::array{std::size_t{300}}, "about");
  std::array const values{1.0f, -2.0f};
  CHECK_THROWS_WITH(graph.constant("c", std::array{std::size_t{3}}, values), "constant c: expected 3 values, found 2");
  l3::onnx_value const c = graph.constant("c", std::array{std::size_t{2}}, values);
  l3::onnx_value const y =
      graph.add("Op", {x, c, graph.integer(-1)},
                {{"f", 0.5f}, {"i", std::int64_t{-1}}, {"l", std::vector<std::int64_t>{1, 128}}}, "y");
  CHECK_THROWS_WITH(graph.add("Relu", {x}, {}, "y"), Contains("value y of a graph: expected a new name"));
  graph.output(y, {}, "");
  graph.metadata("k", "v");
  graph.write(here / "g.onnx");
  auto const hex = [](std::string_view bytes) {
    std::string text;
    for (unsigned char const byte : bytes) {
      constexpr char digits[] = "0123456789abcdef";
      text += {digits[byte / 16], digits[byte % 16]};
    }
    return text;
  };
  // What onnx.helper.make_model(...).SerializeToString() gives of the same, whose producer_version is L3_VERSION.
  std::string const version = L3_VERSION;
  CHECK(hex(content(here / "g.onnx")) ==
        "080712026c331a" + hex(std::string(1, static_cast<char>(version.size())) + version) +
            "3aad010a490a01780a01630a0a636f6e7374616e745f311201791a017922024f702a0b0a0166150000003fa001012a11"
            "0a016918ffffffffffffffffff01a001022a0b0a016c4001408001a001071201672a11080210014201634a080000803f"
            "000000c02a181007420a636f6e7374616e745f314a08ffffffffffffffff5a1c0a017812100a0e0802120a0a0312014e"
            "0a0308ac021a0561626f757462120a0179120b0a09080112050a0312014e1a0042040a00100d72060a016b120176");

  full_disk const disk(16);
  CHECK_THROWS_AS(graph.write(here / "other.onnx"), l3::file_error);
  CHECK(here.files() == 1);
}
