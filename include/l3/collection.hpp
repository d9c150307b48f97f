/// @file  include/l3/collection.hpp: large collections of videos, indexed and packed. Needs SQLite, libarchive and
/// libjpeg-turbo beside FFmpeg: link l3::collection. <l3/media.hpp> reads the videos themselves, <l3/packed.hpp> packed
/// ones alone.
#pragma once
// The data's order, not the alphabet's:
// clang-format off
#include <l3/data/clip_index.hpp>    // what is known of each video
#include <l3/data/probe.hpp>         // a video -> what an index keeps of it
#include <l3/data/pack.hpp>          // videos -> shards of JPEG pictures and sound
#include <l3/data/pack_check.hpp>    // whether the shards are as they were written
#include <l3/data/packed_clips.hpp>  // shards -> pictures and sound, at random
#include <l3/data/collection.hpp>    // any of it by its name
// clang-format on
