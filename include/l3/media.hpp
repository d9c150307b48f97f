/// @file  include/l3/media.hpp: reading videos, sounds and pictures from files, and what <l3/data.hpp> makes of them.
/// Needs FFmpeg: link l3::media. Networks are in <l3/l3net.hpp>.
#pragma once
#include <l3/data.hpp>
// The data's order, not the alphabet's:
// clang-format off
#include <l3/data/ffmpeg.hpp>        // owners and error texts for FFmpeg
#include <l3/data/decode.hpp>        // file -> pictures and sound, each with its time
#include <l3/data/video_files.hpp>   // videos for a loader, the ones used last kept open
#include <l3/data/media_writer.hpp>  // the other way: pictures and sound -> MP4
#include <l3/data/picture_writer.hpp>  // pictures -> PNG
// clang-format on
