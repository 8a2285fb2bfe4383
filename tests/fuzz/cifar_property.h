// What must hold of append_cifar for any input; returns what does not, or "".
#pragma once

#include <string>

#include "nn/data/cifar.h"
#include "tests/fuzz/mutate.h"

namespace sinew::fuzz {

inline std::string check_cifar(const uint8_t* data, size_t size) {
  for (int label_bytes : {1, 2}) {
    nn::U8Samples samples;
    samples.classes = label_bytes == 1 ? 10 : 100;
    const Status status = nn::append_cifar({data, data + size}, label_bytes, "input", samples);
    if (!status.ok()) {
      if (status.code() != StatusCode::data_error) return "another code than data_error";
      if (!is_one_line(status.message())) return "not one line: " + status.message();
      continue;
    }
    if (samples.labels.size() * (3072 + static_cast<size_t>(label_bytes)) != size) return "records and bytes differ";
    if (samples.values.size() != samples.labels.size() * 3072) return "labels and values differ";
  }
  return "";
}

}  // namespace sinew::fuzz
