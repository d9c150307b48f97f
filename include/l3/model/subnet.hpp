/// @file  include/l3/model/subnet.hpp: the trunk that vision and sound share in shape: four blocks of convolutions.
#pragma once
#include <l3/layers/sequential.hpp>

namespace l3::inline L3_ISA {

/// conv-BN-ReLU-conv-BN; what follows is the block's own.
template <std::size_t Filters>
using vgg_convolutions = chain<named<"conv1", conv3x3<Filters>>, named<"bn1", batch_norm<>>, relu,
                               named<"conv2", conv3x3<Filters>>, named<"bn2", batch_norm<>>>;

/// Four blocks; the first three end in ReLU and a 2x2 max pool, the last one in `Top`.
///
/// Shapes  x (N, In) to (N, whatever Top leaves of image<H/8, W/8, 8 Width>).
/// Source  Arandjelović & Zisserman (ICCV 2017), figure 2.
template <image_shape In, std::size_t Width, class... Top>
using trunk = sequential<In, named<"block1", chain<vgg_convolutions<Width>, relu, max_pool<>>>,
                         named<"block2", chain<vgg_convolutions<2 * Width>, relu, max_pool<>>>,
                         named<"block3", chain<vgg_convolutions<4 * Width>, relu, max_pool<>>>,
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

}  // namespace l3::inline L3_ISA
