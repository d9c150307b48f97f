/// @file  examples/l3/probe_images.hpp: the image transfer protocol, a subcommand of l3 probe.
#pragma once
#include "program.hpp"

namespace l3::program {

work add_image_probe(CLI::App& command);

}  // namespace l3::program
