// What a laboratory hands back: tables of numbers and pictures, as text, JSON and SVG.
//
// Thread safety: free functions on values.
#pragma once

#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/status.h"

namespace sinew::train::lab {

using Cell = std::variant<std::string, double>;

struct Table {
  std::string name;   // of the JSON member
  std::string title;  // one line: what is compared with what
  std::vector<std::string> columns;
  std::vector<std::vector<Cell>> rows;
};

struct Picture {
  std::string name;  // of the file, without .svg
  std::string svg;
};

struct Report {
  std::vector<Table> tables;
  std::vector<Picture> pictures;
};

// Columns in line, numbers with seven digits.
std::string text_of(const Table& table);
// {"lab": name, "seed": seed, "tables": {name: {"title", "columns", "rows"}}}; numbers exact, those that are not finite
// as null.
std::string json_of(const Report& report, const std::string& lab, int64_t seed);
// Makes the folder if need be and writes <name>.svg for each picture and <lab>.json. io_error. Returns the files.
Result<std::vector<std::string>> write_report(const Report& report, const std::string& lab, int64_t seed,
                                              const std::string& folder);

}  // namespace sinew::train::lab
