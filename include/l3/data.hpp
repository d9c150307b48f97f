/// @file  include/l3/data.hpp: from samples and pictures in memory to batches, in the order in which data meets them.
/// Takes what <l3/l3net.hpp> takes, l3::l3 alone. <l3/media.hpp> reads them from videos, <l3/packed.hpp> from packed
/// collections.
#pragma once
// The data's order, not the alphabet's:
// clang-format off
#include <l3/data/clip_list.hpp>     // which videos there are, and how they are split
#include <l3/data/published_sets.hpp>  // lists of published data sets
#include <l3/data/picture.hpp>       // RGB pictures
#include <l3/data/resize.hpp>        // of another size
#include <l3/data/reservoir.hpp>     // which draws share the opening of a video
#include <l3/data/sample.hpp>        // which moments make a batch, and how they are paired
#include <l3/data/augment.hpp>       // crop, mirror, colour, loudness
#include <l3/data/spectrogram.hpp>   // a second of sound -> image<F, T, 1>
#include <l3/data/decibel_spectrogram.hpp>  // as OpenL3 has it
#include <l3/data/batch.hpp>         // frames, spectra and labels of one step
#include <l3/data/refusal.hpp>       // videos that could not be used
#include <l3/data/refusal_lines.hpp> // as a file keeps them
#include <l3/data/loader_report.hpp> // what a loader has done, and where its time went
#include <l3/data/loader.hpp>        // all of it, ahead of the network that uses it
// clang-format on
