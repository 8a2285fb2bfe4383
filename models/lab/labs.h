// The laboratories: what the papers say about their methods on problems small enough for exact answers, measured on
// this project's schemes. docs/labs.md has each one's claim, numbers and source.
//
// Adding a laboratory: lab/<name>.{h,cpp} (its numbers as functions that tests call, and its Report), a row in
// labs.cpp, tests/models/lab_<name>_test.cpp, its section in docs/labs.md.
#pragma once

#include <cstdint>
#include <vector>

#include "models/lab/report.h"

namespace sinew::train::lab {

struct Lab {
  const char* name;
  const char* line;  // what it compares, with the source
  Result<Report> (*run)(uint64_t seed);
};
const std::vector<Lab>& labs();

}  // namespace sinew::train::lab
