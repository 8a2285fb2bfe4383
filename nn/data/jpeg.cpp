#include <cstdio>  // jpeglib.h needs FILE and size_t

#include "nn/data/data_file.h"
#include "nn/data/image.h"

#ifdef SINEW_HAVE_JPEG
#include <jerror.h>
#include <jpeglib.h>

#include <csetjmp>
#endif

namespace sinew::nn {

bool is_jpeg(const std::vector<uint8_t>& bytes) {
  return bytes.size() >= 3 && bytes[0] == 0xff && bytes[1] == 0xd8 && bytes[2] == 0xff;
}

#ifdef SINEW_HAVE_JPEG

namespace {

// libjpeg leaves by longjmp: no object with a destructor may live in a frame that it skips. Decoder holds plain data,
// and the functions between setjmp and libjpeg create nothing else.
struct Decoder {
  jpeg_decompress_struct jpeg;
  jpeg_error_mgr errors;
  jpeg_progress_mgr progress;
  jmp_buf failed;
  char message[JMSG_LENGTH_MAX];
};

Decoder* decoder_of(j_common_ptr info) { return static_cast<Decoder*>(info->client_data); }

[[noreturn]] void on_error(j_common_ptr info) {
  Decoder* d = decoder_of(info);
  info->err->format_message(info, d->message);
  std::longjmp(d->failed, 1);
}

// Level -1 is a warning. Those that mean damaged or missing pixels are errors here; bytes between segments and
// unusual markers do no harm.
void on_message(j_common_ptr info, int level) {
  if (level >= 0) return;
  const int code = info->err->msg_code;
  if (code != JWRN_EXTRANEOUS_DATA && code != JWRN_ADOBE_XFORM && code != JWRN_JFIF_MAJOR &&
      code != JWRN_BOGUS_PROGRESSION)
    on_error(info);
}

// A small progressive file can hold any number of scans, each of which costs a pass over the image.
void on_progress(j_common_ptr info) {
  Decoder* d = decoder_of(info);
  if (d->jpeg.input_scan_number > kMaxJpegScans) {
    std::snprintf(d->message, sizeof d->message, "more than %d scans", kMaxJpegScans);
    std::longjmp(d->failed, 1);
  }
}

// Reads the header; false: d.message says why not.
bool begin(Decoder& d, const uint8_t* data, size_t size) {
  d.jpeg.err = jpeg_std_error(&d.errors);
  d.errors.error_exit = on_error;
  d.errors.emit_message = on_message;
  d.jpeg.client_data = &d;
  if (setjmp(d.failed) != 0) return false;
  jpeg_create_decompress(&d.jpeg);
  d.progress.progress_monitor = on_progress;
  d.jpeg.progress = &d.progress;
  jpeg_mem_src(&d.jpeg, data, static_cast<unsigned long>(size));
  jpeg_read_header(&d.jpeg, TRUE);
  const bool four = d.jpeg.jpeg_color_space == JCS_CMYK || d.jpeg.jpeg_color_space == JCS_YCCK;
  d.jpeg.out_color_space = four ? JCS_CMYK : JCS_RGB;
  d.jpeg.dct_method = JDCT_ISLOW;
  return true;
}

// pixels: room for height x width x 3; row: for one row of the decoder's.
bool decode(Decoder& d, uint8_t* pixels, uint8_t* row) {
  if (setjmp(d.failed) != 0) return false;
  jpeg_start_decompress(&d.jpeg);
  while (d.jpeg.output_scanline < d.jpeg.output_height) {
    uint8_t* to = pixels + size_t{d.jpeg.output_scanline} * d.jpeg.output_width * 3;
    if (d.jpeg.out_color_space == JCS_RGB) {
      jpeg_read_scanlines(&d.jpeg, &to, 1);
      continue;
    }
    jpeg_read_scanlines(&d.jpeg, &row, 1);
    for (size_t x = 0; x < d.jpeg.output_width; ++x) {
      const int flip = d.jpeg.saw_Adobe_marker ? 0 : 255;  // Adobe stores the inks inverted
      const int k = row[4 * x + 3] ^ flip;
      for (size_t c = 0; c < 3; ++c) to[3 * x + c] = static_cast<uint8_t>(((row[4 * x + c] ^ flip) * k + 127) / 255);
    }
  }
  jpeg_finish_decompress(&d.jpeg);
  return true;
}

}  // namespace

Result<Image> decode_jpeg(const std::vector<uint8_t>& bytes, const std::string& name) {
  Decoder d{};
  struct Release {
    Decoder& d;
    ~Release() { jpeg_destroy_decompress(&d.jpeg); }  // also of one that was never made: it is all zero
  } release{d};
  if (!begin(d, bytes.data(), bytes.size())) return bad_data(name, "corrupt JPEG image (", d.message, ")");
  SINEW_RETURN_IF_ERROR(check_image_size(d.jpeg.image_height, d.jpeg.image_width, name));
  Image image{.height = d.jpeg.image_height, .width = d.jpeg.image_width, .pixels = {}};
  image.pixels.resize(static_cast<size_t>(image.height * image.width) * 3);
  std::vector<uint8_t> row(static_cast<size_t>(image.width) * 4);
  if (!decode(d, image.pixels.data(), row.data())) return bad_data(name, "corrupt JPEG image (", d.message, ")");
  return image;
}

#else

Result<Image> decode_jpeg(const std::vector<uint8_t>&, const std::string& name) {
  return make_status(StatusCode::unavailable, name,
                     ": this program was built without libjpeg: install libjpeg62-turbo-dev and build again");
}

#endif

}  // namespace sinew::nn
