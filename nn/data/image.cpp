#include "nn/data/image.h"

#include "nn/data/data_file.h"

namespace sinew::nn {

Status check_image_size(int64_t height, int64_t width, const std::string& name) {
  if (height < 1 || width < 1) return bad_data(name, "an image of ", width, " x ", height, " pixels");
  if (height > kMaxImageSide || width > kMaxImageSide || height * width > kMaxImagePixels)
    return bad_data(name, "an image of ", width, " x ", height, " pixels; at most ", kMaxImageSide, " on a side and ",
                    kMaxImagePixels, " in all are read");
  return Status::Ok();
}

Result<Image> decode_image(const std::vector<uint8_t>& bytes, const std::string& name) {
  if (is_png(bytes)) return decode_png(bytes, name);
  if (is_jpeg(bytes)) return decode_jpeg(bytes, name);
  if (bytes.empty()) return bad_data(name, "an empty file, expected a PNG or JPEG image");
  return bad_data(name, "not a PNG or JPEG image");
}

std::vector<std::string> image_formats() {
  std::vector<std::string> formats;
#ifdef SINEW_HAVE_PNG
  formats.emplace_back("PNG");
#endif
#ifdef SINEW_HAVE_JPEG
  formats.emplace_back("JPEG");
#endif
  return formats;
}

}  // namespace sinew::nn
