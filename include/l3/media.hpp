/// @file  include/l3/media.hpp: reading videos and sounds, in the order in which data meets it. Needs FFmpeg: link
/// l3::media. <l3/l3net.hpp> has all the rest.
#pragma once
// The data's order, not the alphabet's:
// clang-format off
#include <l3/data/clip_list.hpp>     // which videos there are, and how they are split
#include <l3/data/published_sets.hpp>  // lists of published data sets
#include <l3/data/ffmpeg.hpp>        // owners and error texts for FFmpeg
#include <l3/data/decode.hpp>        // file -> pictures and sound, each with its time
#include <l3/data/reservoir.hpp>     // which draws share the opening of a video
#include <l3/data/sample.hpp>        // which moments make a batch, and how they are paired
#include <l3/data/augment.hpp>       // crop, mirror, colour, loudness
#include <l3/data/spectrogram.hpp>   // a second of sound -> image<F, T, 1>
#include <l3/data/decibel_spectrogram.hpp>  // as OpenL3 has it
#include <l3/data/batch.hpp>         // frames, spectra and labels of one step
#include <l3/data/video_files.hpp>   // videos for a loader, the ones used last kept open
#include <l3/data/loader_report.hpp> // what a loader has done, and where its time went
#include <l3/data/loader.hpp>        // all of it, ahead of the network that uses it
#include <l3/data/media_writer.hpp>  // the other way: pictures and sound -> MP4
#include <l3/data/picture_writer.hpp>  // pictures -> PNG
// clang-format on
