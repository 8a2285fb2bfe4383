// What must hold of decode_image for any input; returns what does not, or "".
#pragma once

#include <string>

#include "nn/data/image.h"
#include "tests/fuzz/mutate.h"

namespace sinew::fuzz {

inline std::string check_image(const uint8_t* data, size_t size) {
  const Result<nn::Image> image = nn::decode_image({data, data + size}, "input");
  if (!image.ok()) {
    const StatusCode code = image.status().code();
    if (code != StatusCode::data_error && code != StatusCode::unavailable) return "another code than data_error";
    if (!is_one_line(image.status().message())) return "not one line: " + image.status().message();
    return "";
  }
  if (static_cast<int64_t>(image->pixels.size()) != image->height * image->width * 3) return "size and pixels differ";
  if (image->height * image->width > nn::kMaxImagePixels) return "larger than allowed";
  return "";
}

}  // namespace sinew::fuzz
