// Decoding PNG and JPEG files to 8-bit RGB.
//
// Files are hostile input: sizes are checked before anything is allocated (at most kMaxImageSide on a side and
// kMaxImagePixels in all), a JPEG may have kMaxJpegScans scans, and every defect is one data_error that names the file.
// A truncated image is an error, not a grey one.
//
// Grey images get three equal channels, transparent pixels lie on black, CMYK is converted. Colour profiles are not
// applied, the orientation that a camera notes is not either.
//
// Thread safety: free functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace sinew::nn {

inline constexpr int64_t kMaxImageSide = 65'500, kMaxImagePixels = int64_t{1} << 26;
inline constexpr int kMaxJpegScans = 200;

struct Image {
  int64_t height = 0, width = 0;
  std::vector<uint8_t> pixels;  // (height, width, 3)
};

// A whole file's bytes; PNG or JPEG is told from the content. `name` is for messages. Errors: data_error; unavailable
// in a build without the format's library.
Result<Image> decode_image(const std::vector<uint8_t>& bytes, const std::string& name);
// The formats this build reads: "PNG", "JPEG", or both.
std::vector<std::string> image_formats();

// ---- png.cpp, jpeg.cpp ----
bool is_png(const std::vector<uint8_t>& bytes);
bool is_jpeg(const std::vector<uint8_t>& bytes);
Result<Image> decode_png(const std::vector<uint8_t>& bytes, const std::string& name);
Result<Image> decode_jpeg(const std::vector<uint8_t>& bytes, const std::string& name);
// data_error for an image that is empty or too large.
Status check_image_size(int64_t height, int64_t width, const std::string& name);

}  // namespace sinew::nn
