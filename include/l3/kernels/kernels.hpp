/// @file  include/l3/kernels/kernels.hpp: the one door to the kernels: sizes, plain loops, SIMD.
#pragma once
#include <l3/kernels/cpu/batch_norm.hpp>
#include <l3/kernels/cpu/conv2d.hpp>       // which algorithm a convolution takes
#include <l3/kernels/cpu/conv_direct.hpp>  // convolution as register tiles
#include <l3/kernels/cpu/conv_strip.hpp>   // cutting pictures for convolutions
#include <l3/kernels/cpu/conv_weight_gradient.hpp>
#include <l3/kernels/cpu/dense.hpp>
#include <l3/kernels/cpu/elementwise.hpp>
#include <l3/kernels/cpu/pair_scores.hpp>
#include <l3/kernels/cpu/pool2d.hpp>
#include <l3/kernels/cpu/row_sums.hpp>
#include <l3/kernels/cpu/scratch.hpp>
#include <l3/kernels/cpu/simd.hpp>   // a register of floats
#include <l3/kernels/dims.hpp>       // plain sizes and settings
#include <l3/kernels/reference.hpp>  // every operation as plain loops: the contract
