/// @file  include/l3/kernels/kernels.hpp: the one door to the kernels: sizes, plain loops, SIMD.
#pragma once
#include <l3/kernels/cpu/amx.hpp>                       // matrix registers
#include <l3/kernels/cpu/batch_norm.hpp>                // batch norm, rectifier and pooling in one pass
#include <l3/kernels/cpu/conv2d.hpp>                    // which algorithm a convolution takes
#include <l3/kernels/cpu/conv_direct.hpp>               // convolution as register tiles
#include <l3/kernels/cpu/conv_strip.hpp>                // cutting pictures for convolutions
#include <l3/kernels/cpu/conv_weight_gradient.hpp>      // its weight gradient
#include <l3/kernels/cpu/conv_winograd.hpp>             // convolution in a quarter of the multiplications
#include <l3/kernels/cpu/dense.hpp>                     // dense products
#include <l3/kernels/cpu/elementwise.hpp>               // rectifier, Adam
#include <l3/kernels/cpu/pair_scores.hpp>               // the fusion head over pairs
#include <l3/kernels/cpu/pool2d.hpp>                    // max pooling
#include <l3/kernels/cpu/row_sums.hpp>                  // sums and moments over rows
#include <l3/kernels/cpu/scratch.hpp>                   // memory all of these need
#include <l3/kernels/cpu/simd.hpp>                      // a register of floats
#include <l3/kernels/cpu/winograd.hpp>                  // Winograd's transforms
#include <l3/kernels/cpu/winograd_weight_gradient.hpp>  // its weight gradient
#include <l3/kernels/dims.hpp>                          // plain sizes and settings
#include <l3/kernels/reference.hpp>                     // every operation as plain loops: the contract
