// What must hold of parse_safetensors for any input; returns what does not, or "".
#pragma once

#include <string>

#include "core/safetensors.h"
#include "tests/fuzz/mutate.h"

namespace sinew::fuzz {

inline std::string check_safetensors(const uint8_t* data, size_t size) {
  const Result<SafetensorsFile> file = parse_safetensors(reinterpret_cast<const std::byte*>(data), size, "input");
  if (!file.ok()) {
    if (file.status().code() != StatusCode::data_error) return "another code than data_error";
    if (!is_one_line(file.status().message())) return "not one line: " + file.status().message();
    return "";
  }
  size_t bytes = 0;
  for (const auto& [name, array] : file->tensors) {
    if (array.bytes.size() != static_cast<size_t>(array.shape.numel()) * size_of(array.dtype)) return "size of " + name;
    bytes += array.bytes.size();
  }
  if (bytes + 8 + 2 > size) return "more data than the file has";
  return "";
}

}  // namespace sinew::fuzz
