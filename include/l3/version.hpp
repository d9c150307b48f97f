/// @file  include/l3/version.hpp: the version of l3. CMake reads the three numbers from here.
#pragma once

#define L3_VERSION_MAJOR 0
#define L3_VERSION_MINOR 1
#define L3_VERSION_PATCH 0
#define L3_VERSION "0.1.0"
