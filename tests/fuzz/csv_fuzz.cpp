/// @file  tests/fuzz/csv_fuzz.cpp: any text at all, read as a CSV table (libFuzzer).
///
/// What is accepted must be a table, and must be read back the same after `csv_row` has written it.
/// CMake links it with mutate.cpp; for libFuzzer: clang++ -std=c++20 -O1 -g -Iinclude
/// -fsanitize=fuzzer,address,undefined
#include <cstdint>
#include <cstdlib>
#include <l3/files/csv.hpp>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(std::uint8_t const* data, std::size_t size) {
  auto const require = [](bool holds) {
    if (!holds) std::abort();
  };
  try {
    auto const table = l3::parse_csv(std::string_view(reinterpret_cast<char const*>(data), size), "fuzz");
    require(table.lines.size() == table.rows.size());
    auto text = l3::csv_row(table.header);
    for (auto const& row : table.rows) {
      require(row.size() == table.header.size());
      text += l3::csv_row(row);
    }
    auto const again = l3::parse_csv(text, "fuzz");
    require(again.header == table.header && again.rows == table.rows);
  } catch (l3::format_error const&) {  // any other exception is a finding
  }
  return 0;
}
