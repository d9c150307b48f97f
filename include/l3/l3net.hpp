/// @file  include/l3/l3net.hpp: the network, the trainer and the processor backend. <l3/data.hpp> adds spectrograms,
/// pictures and batches, <l3/media.hpp> (component l3::media) reading videos. Apart is <l3/eval/frechet.hpp>, the
/// distance of collections: Eigen's decompositions take seconds to compile.
#pragma once
#include <l3/core/backend.hpp>     // reference, simd, cpu
#include <l3/core/config.hpp>      // what depends on compiler and flags
#include <l3/core/context.hpp>     // threads
#include <l3/core/error.hpp>       // l3::error: expected this, found that
#include <l3/core/front_end.hpp>   // what a second of sound becomes
#include <l3/core/memory.hpp>      // footprint, arena
#include <l3/core/pairing.hpp>     // which frames meet which sounds
#include <l3/core/random.hpp>      // the same draw for the same (seed, stream, step, index)
#include <l3/core/shape.hpp>       // image<H, W, C>, features<D>
#include <l3/core/tensor.hpp>      // tensor owns, batch_view borrows
#include <l3/core/text.hpp>        // texts of others, to be shown
#include <l3/eval/clustering.hpp>  // k-means, mutual information
#include <l3/eval/colour_map.hpp>  // colours for values
#include <l3/eval/confusion.hpp>   // which classes are taken for which
#include <l3/eval/folds.hpp>       // cross-validation
#include <l3/eval/linear_svm.hpp>  // one class against all others
#include <l3/eval/metrics.hpp>
#include <l3/eval/ranking.hpp>       // how near the top
#include <l3/eval/roc.hpp>           // whatever the threshold
#include <l3/eval/standardise.hpp>   // z-scores
#include <l3/files/atomic_file.hpp>  // whole or not at all
#include <l3/files/csv.hpp>          // tables of text
#include <l3/files/event_file.hpp>   // what TensorBoard shows
#include <l3/files/json_text.hpp>    // JSON of any names, and of strangers
#include <l3/files/onnx.hpp>         // a computation for other programs
#include <l3/files/safetensors.hpp>
#include <l3/files/wav.hpp>        // sound that every player reads
#include <l3/kernels/kernels.hpp>  // the maths
#include <l3/layers/batch_norm.hpp>
#include <l3/layers/conv2d.hpp>
#include <l3/layers/conv_norm.hpp>
#include <l3/layers/dense.hpp>
#include <l3/layers/fuse.hpp>
#include <l3/layers/layer.hpp>  // what a layer is
#include <l3/layers/max_pool2d.hpp>
#include <l3/layers/relu.hpp>
#include <l3/layers/sequential.hpp>      // layers in a row
#include <l3/model/chain_inference.hpp>  // any layers in a row, in use
#include <l3/model/classifier.hpp>       // one subnetwork, and classes
#include <l3/model/config.hpp>           // paper, small, tiny
#include <l3/model/fusion.hpp>           // do they belong together?
#include <l3/model/network.hpp>          // l3_network, training, inference
#include <l3/model/openl3.hpp>           // OpenL3's networks
#include <l3/model/sliding.hpp>          // seconds that overlap share their work
#include <l3/model/subnet.hpp>           // four blocks of convolutions
#include <l3/model/weights.hpp>          // where they are, and how they begin
#include <l3/train/checkpoint.hpp>
#include <l3/train/classifier_checkpoint.hpp>
#include <l3/train/classifier_trainer.hpp>
#include <l3/train/fusion_trainer.hpp>
#include <l3/train/loss.hpp>
#include <l3/train/onnx_export.hpp>  // networks for other programs
#include <l3/train/openl3_checkpoint.hpp>
#include <l3/train/optimizer.hpp>
#include <l3/train/running_averages.hpp>
#include <l3/train/softmax_head.hpp>
#include <l3/train/trainer.hpp>
#include <l3/version.hpp>  // version numbers
