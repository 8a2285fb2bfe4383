#include <algorithm>

#include "nn/data/data_file.h"
#include "nn/data/image.h"

#ifdef SINEW_HAVE_PNG
#include <png.h>
#endif

namespace sinew::nn {

bool is_png(const std::vector<uint8_t>& bytes) {
  constexpr uint8_t kSignature[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
  return bytes.size() >= 8 && std::equal(kSignature, kSignature + 8, bytes.begin());
}

#ifdef SINEW_HAVE_PNG

// libpng's simplified interface reports errors by return values: no longjmp passes through here.
Result<Image> decode_png(const std::vector<uint8_t>& bytes, const std::string& name) {
  struct Reader {
    png_image png{};
    ~Reader() { png_image_free(&png); }
  } reader;
  png_image& png = reader.png;
  png.version = PNG_IMAGE_VERSION;
  if (!png_image_begin_read_from_memory(&png, bytes.data(), bytes.size()))
    return bad_data(name, "corrupt PNG image (", png.message, ")");
  SINEW_RETURN_IF_ERROR(check_image_size(png.height, png.width, name));
  png.format = PNG_FORMAT_RGB;
  Image image{.height = png.height, .width = png.width, .pixels = {}};
  image.pixels.resize(PNG_IMAGE_SIZE(png));  // zero: what shows through transparent pixels
  const bool read = png_image_finish_read(&png, nullptr, image.pixels.data(), 0, nullptr) != 0;
  if (!read || (png.warning_or_error & PNG_IMAGE_ERROR) != 0)
    return bad_data(name, "corrupt PNG image (", png.message, ")");
  return image;
}

#else

Result<Image> decode_png(const std::vector<uint8_t>&, const std::string& name) {
  return make_status(StatusCode::unavailable, name,
                     ": this program was built without libpng: install libpng-dev and build again");
}

#endif

}  // namespace sinew::nn
