// What must hold of parse_idx for any input; returns what does not, or "".
#pragma once

#include <string>

#include "nn/data/idx.h"
#include "tests/fuzz/mutate.h"

namespace sinew::fuzz {

inline std::string check_idx(const uint8_t* data, size_t size) {
  const Result<nn::IdxArray> array = nn::parse_idx(data, size, "input");
  if (!array.ok()) {
    const StatusCode code = array.status().code();
    if (code != StatusCode::data_error && code != StatusCode::unavailable) return "another code than data_error";
    if (!is_one_line(array.status().message())) return "not one line: " + array.status().message();
    return "";
  }
  if (static_cast<int64_t>(array->values.size()) != array->shape.numel()) return "shape and values differ";
  if (array->values.size() > 1032 * size) return "more values than the file can hold";
  return "";
}

}  // namespace sinew::fuzz
