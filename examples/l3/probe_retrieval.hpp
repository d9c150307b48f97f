/// @file  examples/l3/probe_retrieval.hpp: how well a network finds videos by sight and sound, of `l3 probe retrieval`.
#pragma once
#include "program.hpp"

namespace l3::program {

work add_retrieval_probe(CLI::App& command);

}  // namespace l3::program
