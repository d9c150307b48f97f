/// @file  include/l3/packed.hpp: batches from packed collections of videos, which take no FFmpeg to read. Needs SQLite
/// and libjpeg-turbo: link l3::packed. <l3/collection.hpp> packs them.
#pragma once
#include <l3/data.hpp>
// The data's order, not the alphabet's:
// clang-format off
#include <l3/data/clip_index.hpp>    // what is known of each video
#include <l3/data/packed_clips.hpp>  // shards -> pictures and sound, at random
#include <l3/data/collection.hpp>    // a folder, an index or a packed collection by its name
// clang-format on
