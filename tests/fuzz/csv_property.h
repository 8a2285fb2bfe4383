// What must hold of parse_csv for any input; returns what does not, or "".
#pragma once

#include <cmath>
#include <string>

#include "nn/data/csv.h"
#include "tests/fuzz/mutate.h"

namespace sinew::fuzz {

inline std::string check_csv(const uint8_t* data, size_t size) {
  for (const char* label : {"", "class", "1"}) {
    const Result<nn::CsvTable> table = nn::parse_csv({data, data + size}, label, "input");
    if (!table.ok()) {
      const StatusCode code = table.status().code();
      if (code != StatusCode::data_error && (code != StatusCode::invalid_argument || *label == 0)) return "wrong code";
      if (!is_one_line(table.status().message())) return "not one line: " + table.status().message();
      continue;
    }
    const size_t rows = table->labels.size();
    if (rows == 0 || table->columns < 1) return "an empty table";
    if (table->values.size() != rows * static_cast<size_t>(table->columns)) return "rows and values differ";
    if (table->line_of.size() != rows) return "rows and lines differ";
    if (!table->names.empty() && static_cast<int64_t>(table->names.size()) != table->columns) return "names differ";
    for (float v : table->values)
      if (!std::isfinite(v)) return "a value that is not finite";
  }
  return "";
}

}  // namespace sinew::fuzz
