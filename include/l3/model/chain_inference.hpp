/// @file  include/l3/model/chain_inference.hpp: any chain of layers in use.
#pragma once
#include <cstddef>
#include <l3/core/context.hpp>
#include <l3/core/tensor.hpp>
#include <l3/layers/layer.hpp>
#include <string>

namespace l3::inline L3_ISA {

/// A `sequential` in use on backend B. All memory is taken at construction, and the weights as they are then, prepared
/// for the kernels; `refresh` takes them again. One thread at a time; several of these may share a context, which has
/// to live longer.
///
/// Shapes  x (n, Chain::input), y (n, Chain::output), n up to `items`.
template <class Chain, backend B = cpu>
class chain_inference {
 public:
  using scalar = scalar_of<B>;
  using value = value_of<B>;
  /// The weights, prepared, and as they are for layers that use them so; and what one call needs.
  static constexpr footprint plan =
      Chain::template prepared<B> + fixed<scalar>(Chain::parameter_room) + Chain::template infer_scratch<B>;

  /// `weights` are laid out as Chain::parameters says.
  chain_inference(context<B>& on, scalar const* weights, std::size_t items)
      : on_(on), items_(items), memory_(plan.bytes(items, on.threads())) {
    refresh(weights);
  }
  void refresh(scalar const* weights) {
    places const at(*this, 0);
    upload(on_, Chain::parameter_room, weights, at.params);
    Chain::prepare(on_, at.params, at.prepared);
  }
  /// Errors  shape_error: counts that differ, or more items than there is room for.
  void operator()(batch_view<value const, typename Chain::input> x, batch_view<value, typename Chain::output> y) {
    require_same_count("inference: outputs for the inputs", x.count, y.count);
    if (x.count > items_)
      throw shape_error({"inference batch", "at most " + std::to_string(items_) + " items", std::to_string(x.count)});
    places const at(*this, x.count);
    Chain::infer_prepared(pass<B>{on_, x.count, at.rest}, at.params, at.prepared, x.data, y.data);
  }

 private:
  struct places {
    std::byte* prepared;
    scalar* params;
    std::byte* rest;
    places(chain_inference const& t, std::size_t items) {
      carver space(t.memory_.data(), items, t.on_.threads());
      prepared = space.template take<std::byte>(Chain::template prepared<B>);
      params = space.template take<scalar>(fixed<scalar>(Chain::parameter_room));
      rest = space.rest();
    }
  };

  context<B>& on_;
  std::size_t items_;
  memory_on<B> memory_;
};

}  // namespace l3::inline L3_ISA
