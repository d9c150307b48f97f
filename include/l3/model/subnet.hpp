/// @file  include/l3/model/subnet.hpp: the trunk that vision and sound share in shape: four blocks of convolutions.
#pragma once
#include <l3/layers/sequential.hpp>
#include <type_traits>

namespace l3::inline L3_ISA {

/// conv-BN-ReLU-conv-BN; what follows is the block's own.
template <std::size_t Filters>
using vgg_convolutions = chain<named<"conv1", conv3x3<Filters>>, named<"bn1", batch_norm<>>, relu,
                               named<"conv2", conv3x3<Filters>>, named<"bn2", batch_norm<>>>;

/// A block that is not the last one: ends in ReLU and a 2x2 max pool.
template <label Name, std::size_t Filters>
using pooled_block = named<Name, chain<vgg_convolutions<Filters>, relu, max_pool<>>>;

/// The first of three such blocks, or two, or all three: their maps are called "pool1" to "pool3".
///
/// Shapes  x (N, In) to (N, image<H / 2^Blocks, W / 2^Blocks, 2^(Blocks - 1) Width>).
template <image_shape In, std::size_t Width, std::size_t Blocks>
requires(within<std::size_t{1}, Blocks, std::size_t{3}>) using first_blocks = std::conditional_t<
    Blocks == 1, sequential<In, pooled_block<"block1", Width>>,
    std::conditional_t<Blocks == 2, sequential<In, pooled_block<"block1", Width>, pooled_block<"block2", 2 * Width>>,
                       sequential<In, pooled_block<"block1", Width>, pooled_block<"block2", 2 * Width>,
                                  pooled_block<"block3", 4 * Width>>>>;

/// Four blocks; the first three are pooled_blocks, the last one ends in `Top`.
///
/// Shapes  x (N, In) to (N, whatever Top leaves of image<H/8, W/8, 8 Width>).
/// Source  Arandjelović & Zisserman (ICCV 2017), figure 2.
template <image_shape In, std::size_t Width, class... Top>
using trunk =
    sequential<In, pooled_block<"block1", Width>, pooled_block<"block2", 2 * Width>, pooled_block<"block3", 4 * Width>,
               named<"block4", chain<vgg_convolutions<8 * Width>, Top...>>>;

/// The subnetwork as the paper trains it: ends in a global max pool, features<8 Width> ("pool4").
template <image_shape In, std::size_t Width>
using subnet = trunk<In, Width, relu, global_max_pool>;

/// The same weights up to the last batch norm ("conv4_2" before ReLU), or up to the ReLU behind it: what the paper's
/// transfer experiments read.
template <image_shape In, std::size_t Width>
using conv4_2_before_relu = trunk<In, Width>;
template <image_shape In, std::size_t Width>
using conv4_2 = trunk<In, Width, relu>;

/// The regions of those maps of which the paper's transfer experiments keep the largest values: 8192 of pictures and
/// 6144 of sounds at full size.
inline constexpr extent2 picture_regions{4, 4}, sound_regions{4, 3};

}  // namespace l3::inline L3_ISA
