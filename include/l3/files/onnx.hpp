/// @file  include/l3/files/onnx.hpp: a computation as an ONNX file, for other programs to run.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <l3/core/config.hpp>
#include <l3/core/error.hpp>
#include <l3/core/memory.hpp>
#include <l3/files/atomic_file.hpp>
#include <l3/files/protobuf.hpp>
#include <l3/version.hpp>
#include <limits>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace l3::inline L3_ISA {

static_assert(std::endian::native == std::endian::little, "l3: ONNX files are little endian, like this code");

/// What the numbers of an ONNX value are; the codes are ONNX's.
enum class onnx_type : std::uint8_t { float32 = 1, uint8 = 2 };

/// A value in a graph: its name there.
using onnx_value = std::string;

/// One setting of an operator.
struct onnx_attribute {
  char const* name;
  std::variant<std::int64_t, float, std::vector<std::int64_t>> value;
};

/// An input or output of a graph: (N, dims...).
struct onnx_port {
  onnx_value name;
  std::vector<std::size_t> dims;
};

/// A computation on a batch of items, operator after operator, in the order in which they are added. What is added is
/// encoded at once; `write` puts it together.
///
/// Shapes  inputs and outputs have an open first axis, N: the items.
/// Errors  setting_error: a name for two values.
/// Source  ONNX IR version 7, operator set 13; onnx.proto.
class onnx_graph {
 public:
  static constexpr std::uint64_t operator_set = 13;

  /// `name` is one that C would take.
  explicit onnx_graph(std::string name) : name_(std::move(name)) {}

  /// What the graph is given: (N, dims...). `about` is for people: units and order.
  onnx_value input(std::string const& name, onnx_type type, std::span<std::size_t const> dims,
                   std::string const& about) {
    inputs_.message(11, described(name, type, dims, about));
    arguments_.push_back({name, {dims.begin(), dims.end()}});
    return once(name);
  }
  /// Says that a value is a result: (N, dims...).
  void output(onnx_value const& value, std::span<std::size_t const> dims, std::string const& about) {
    outputs_.message(12, described(value, onnx_type::float32, dims, about));
    results_.push_back({value, {dims.begin(), dims.end()}});
  }
  std::vector<onnx_port> const& inputs() const { return arguments_; }
  std::vector<onnx_port> const& outputs() const { return results_; }

  /// Numbers that are always the same. Errors: shape_error: not as many as dims say.
  onnx_value constant(std::string const& name, std::span<std::size_t const> dims, std::span<float const> values) {
    if (auto const count = detail::checked_product(dims); count != values.size())
      throw shape_error(
          {"constant " + name, (count ? std::to_string(*count) : "fewer") + " values", std::to_string(values.size())});
    detail::protobuf_message tensor;
    for (std::size_t const d : dims) tensor.number(1, d);
    tensor.number(2, static_cast<std::uint64_t>(onnx_type::float32));
    return add_constant(tensor, name, std::as_bytes(values));
  }
  onnx_value constant(float value) { return constant(unique("constant"), {}, std::span(&value, 1)); }
  /// Axes, sizes and places, which some operators take as values: a list, or a single one.
  onnx_value integers(std::vector<std::int64_t> const& values) { return integers(values, true); }
  onnx_value integer(std::int64_t value) { return integers({value}, false); }

  /// Adds an operator of the standard set; its one result is called `name`, or some name of its own.
  onnx_value add(std::string const& op, std::initializer_list<onnx_value> from,
                 std::initializer_list<onnx_attribute> attributes = {}, std::string const& name = "") {
    return add(op, std::vector<onnx_value>(from), attributes, name);
  }
  onnx_value add(std::string const& op, std::vector<onnx_value> const& from,
                 std::initializer_list<onnx_attribute> attributes = {}, std::string const& name = "") {
    onnx_value const result = once(name.empty() ? unique(op) : name);
    detail::protobuf_message node;
    for (onnx_value const& x : from) node.text(1, x);
    node.text(2, result);
    node.text(3, result);
    node.text(4, op);
    for (onnx_attribute const& a : attributes) node.message(5, encoded(a));
    nodes_.message(1, node);
    return result;
  }

  /// A remark that programs can read.
  void metadata(std::string const& key, std::string const& value) {
    detail::protobuf_message entry;
    entry.text(1, key);
    entry.text(2, value);
    metadata_.message(14, entry);
  }

  /// Writes the file, whole or not at all. Its bytes are those that Protocol Buffers themselves write for what is in
  /// it. Errors: file_error; format_error: more than the 2 GiB that such a file can hold.
  void write(std::filesystem::path const& path) const {
    detail::protobuf_message head, graph_name, last;
    head.number(1, 7);  // IR version
    head.text(2, "l3");
    head.text(3, L3_VERSION);
    graph_name.text(2, name_);
    detail::protobuf_message const* const graph[] = {&nodes_, &graph_name, &constants_, &inputs_, &outputs_};
    std::size_t size = 0;
    for (auto const* part : graph) size += part->bytes().size();
    if (size > std::numeric_limits<std::int32_t>::max() - (std::size_t{1} << 20))
      throw format_error({path.string(), "a network of less than 2 GiB, the most that an ONNX file holds",
                          std::to_string(size) + " bytes"});
    head.announce(7, size);
    detail::protobuf_message operators;
    operators.text(1, "");
    operators.number(2, operator_set);
    last.message(8, operators);
    atomic_file out(path);
    out.write(head.bytes());
    for (auto const* part : graph) out.write(part->bytes());
    out.write(last.bytes());
    out.write(metadata_.bytes());
    out.commit();
  }

 private:
  onnx_value add_constant(detail::protobuf_message& tensor, std::string const& name, std::span<std::byte const> bytes) {
    tensor.text(8, name);
    tensor.text(9, {reinterpret_cast<char const*>(bytes.data()), bytes.size()});
    constants_.message(5, tensor);
    return once(name);
  }
  onnx_value integers(std::vector<std::int64_t> const& values, bool list) {
    detail::protobuf_message tensor;
    if (list) tensor.number(1, values.size());
    tensor.number(2, 7);
    return add_constant(tensor, unique("constant"), std::as_bytes(std::span(values)));
  }
  /// ValueInfoProto.
  static detail::protobuf_message described(std::string const& name, onnx_type type, std::span<std::size_t const> dims,
                                            std::string const& about) {
    detail::protobuf_message shape, tensor, type_of, value, dim;
    dim.text(2, "N");
    shape.message(1, dim);
    for (std::size_t const d : dims) {
      detail::protobuf_message fixed;
      fixed.number(1, d);
      shape.message(1, fixed);
    }
    tensor.number(1, static_cast<std::uint64_t>(type));
    tensor.message(2, shape);
    type_of.message(1, tensor);
    value.text(1, name);
    value.message(2, type_of);
    value.text(3, about);
    return value;
  }
  /// AttributeProto: name, value, and which kind of value it is.
  static detail::protobuf_message encoded(onnx_attribute const& a) {
    detail::protobuf_message m;
    m.text(1, a.name);
    if (auto const* real = std::get_if<float>(&a.value)) {
      m.real(2, *real);
      m.number(20, 1);
    } else if (auto const* number = std::get_if<std::int64_t>(&a.value)) {
      m.number(3, static_cast<std::uint64_t>(*number));
      m.number(20, 2);
    } else {
      for (std::int64_t const n : std::get<2>(a.value)) m.number(8, static_cast<std::uint64_t>(n));
      m.number(20, 7);
    }
    return m;
  }
  onnx_value once(onnx_value const& name) {
    if (!names_.insert(name).second) throw setting_error({"value " + name + " of a graph", "a new name", "one in use"});
    return name;
  }
  std::string unique(std::string const& what) { return what + "_" + std::to_string(++made_); }

  std::string name_;
  detail::protobuf_message nodes_, constants_, inputs_, outputs_, metadata_;
  std::vector<onnx_port> arguments_, results_;
  std::set<std::string> names_;
  std::size_t made_ = 0;
};

}  // namespace l3::inline L3_ISA
