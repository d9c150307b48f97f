/// @file  tests/support/catch.hpp: Catch2, version 2 or 3, with the names that these tests use.
#pragma once
#if __has_include(<catch2/catch_all.hpp>)
#include <catch2/catch_all.hpp>

using Catch::Approx, Catch::Matchers::StartsWith;
inline auto Contains(std::string const& part) { return Catch::Matchers::ContainsSubstring(part); }
#else
#include <catch2/catch.hpp>

using Catch::Matchers::Contains, Catch::Matchers::StartsWith;
#endif
