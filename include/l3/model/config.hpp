/// @file  include/l3/model/config.hpp: the sizes that tell one L³-Net from another.
#pragma once
#include <cstddef>
#include <l3/core/front_end.hpp>
#include <l3/core/shape.hpp>
#include <string_view>

namespace l3::inline L3_ISA {

/// The network of the paper.
/// Source  Arandjelović & Zisserman, "Look, Listen and Learn" (ICCV 2017), section 3.1.
struct paper {
  static constexpr char const* name = "paper";
  using frame = image<224, 224, 3>;
  static constexpr std::size_t frame_side = 256;  ///< smallest side of a picture before it is cropped to `frame`
  using front_end = paper_front_end;
  static constexpr std::size_t width = 64;    ///< filters of the first block; each block has twice those before
  static constexpr std::size_t hidden = 128;  ///< units between the joined features and the two scores
  static constexpr double learning_rate = 1e-4;
  static constexpr std::size_t batch = 16;
};

/// A quarter of the width on a quarter of the pixels; the sound is the paper's.
struct small {
  static constexpr char const* name = "small";
  using frame = image<112, 112, 3>;
  static constexpr std::size_t frame_side = 128;
  using front_end = paper_front_end;
  static constexpr std::size_t width = 16;
  static constexpr std::size_t hidden = 128;
  static constexpr double learning_rate = 1e-3;
  static constexpr std::size_t batch = 64;
};

/// Small enough to learn something in minutes on a laptop.
struct tiny {
  static constexpr char const* name = "tiny";
  using frame = image<48, 48, 3>;
  static constexpr std::size_t frame_side = 54;
  using front_end = coarse_front_end;
  static constexpr std::size_t width = 16;
  static constexpr std::size_t hidden = 128;
  static constexpr double learning_rate = 1e-3;
  static constexpr std::size_t batch = 64;
};

/// Calls use(Config{}) with the one of this name. False: there is none.
template <class Use>
bool with_model(std::string_view name, Use&& use) {
  auto const one_of = [&]<class... Configs>(Configs... all) {
    return (... || (name == Configs::name && (use(all), true)));
  };
  return one_of(paper{}, small{}, tiny{});
}

/// What such a description must have; own ones are as good as these three.
template <class C>
concept network_config = requires {
  C::name;
  C::front_end::name;
  requires image_shape<typename C::frame>;
  requires image_shape<typename C::front_end::output>;
  requires C::frame_side >= C::frame::height&& C::frame_side >= C::frame::width;
  requires within<std::size_t{1}, C::width, std::size_t{4096}>;
  requires within<std::size_t{1}, C::hidden, std::size_t{65536}>;
};

}  // namespace l3::inline L3_ISA
