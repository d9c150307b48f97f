/// @file  include/l3/kernels/kernels.hpp: the one door to the kernels: sizes, plain loops, SIMD; in units that a CUDA
/// compiler reads, the GPU's in place of SIMD.
#pragma once
#include <l3/core/config.hpp>
#include <l3/kernels/column_copy.hpp>  // columns of pictures to others
#include <l3/kernels/dims.hpp>         // plain sizes and settings
#include <l3/kernels/reference.hpp>    // every operation as plain loops: the contract
#include <l3/kernels/region_pool.hpp>  // the largest values of a map's regions
#if !defined(__CUDACC__)
#include <l3/kernels/cpu/amx.hpp>                       // matrix registers
#include <l3/kernels/cpu/batch_norm.hpp>                // batch norm, rectifier and pooling in one pass
#include <l3/kernels/cpu/conv2d.hpp>                    // which algorithm a convolution takes
#include <l3/kernels/cpu/conv_direct.hpp>               // convolution as register tiles
#include <l3/kernels/cpu/conv_matrix.hpp>               // convolution in matrix registers
#include <l3/kernels/cpu/conv_strip.hpp>                // cutting pictures for convolutions
#include <l3/kernels/cpu/conv_weight_gradient.hpp>      // its weight gradient
#include <l3/kernels/cpu/conv_winograd.hpp>             // convolution in a quarter of the multiplications
#include <l3/kernels/cpu/dense.hpp>                     // dense products
#include <l3/kernels/cpu/elementwise.hpp>               // rectifier, Adam
#include <l3/kernels/cpu/packed_map.hpp>                // maps as those read them
#include <l3/kernels/cpu/pair_scores.hpp>               // the fusion head over pairs
#include <l3/kernels/cpu/pool2d.hpp>                    // max pooling
#include <l3/kernels/cpu/row_sums.hpp>                  // sums and moments over rows
#include <l3/kernels/cpu/scratch.hpp>                   // memory all of these need
#include <l3/kernels/cpu/simd.hpp>                      // a register of floats
#include <l3/kernels/cpu/winograd.hpp>                  // Winograd's transforms
#include <l3/kernels/cpu/winograd_weight_gradient.hpp>  // its weight gradient
#endif
#if L3_CUDA
#include <l3/kernels/cuda/augment.cuh>               // mirror and colours of frames
#include <l3/kernels/cuda/batch_norm.cuh>            // batch norm, rectifier and pooling in few passes
#include <l3/kernels/cuda/column_copy.cuh>           // columns of pictures to others
#include <l3/kernels/cuda/conv2d.cuh>                // convolution as a matrix product
#include <l3/kernels/cuda/conv_direct.cuh>           // whose taps read the same pixels in shared memory
#include <l3/kernels/cuda/conv_thin.cuh>             // of few channels, with its batch norm
#include <l3/kernels/cuda/conv_weight_gradient.cuh>  // its weight gradient
#include <l3/kernels/cuda/dense.cuh>                 // dense products
#include <l3/kernels/cuda/elementwise.cuh>           // rectifier, Adam
#include <l3/kernels/cuda/pair_scores.cuh>           // the fusion head over pairs, and its loss
#include <l3/kernels/cuda/pool2d.cuh>                // max pooling
#include <l3/kernels/cuda/row_sums.cuh>              // sums and moments over rows
#include <l3/kernels/cuda/scratch.cuh>               // memory all of these need
#include <l3/kernels/cuda/spectrogram.cuh>           // what the audio subnetwork looks at
#endif
