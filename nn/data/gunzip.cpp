#include "nn/data/gunzip.h"

#include <algorithm>
#include <new>
#include <utility>

#ifdef SINEW_HAVE_ZLIB
#include <zlib.h>
#endif

namespace sinew::nn {

bool is_gzip(const uint8_t* data, size_t size) { return size >= 2 && data[0] == 0x1f && data[1] == 0x8b; }

#ifdef SINEW_HAVE_ZLIB

struct Gunzip::Stream {
  Stream() {
    if (inflateInit2(&z, 15 + 16) != Z_OK) throw std::bad_alloc();  // 15: window, 16: gzip wrapper only
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { inflateEnd(&z); }

  z_stream z{};
  size_t at = 0;  // bytes of the input consumed
  bool ended = false;
};

Gunzip::Gunzip(const uint8_t* data, size_t size, std::string name)
    : data_(data), size_(size), name_(std::move(name)), stream_(std::make_unique<Stream>()) {}

Result<size_t> Gunzip::read(uint8_t* to, size_t n) {
  constexpr size_t kPiece = size_t{1} << 30;  // zlib counts in unsigned int
  Stream& s = *stream_;
  size_t done = 0;
  while (done < n && !s.ended) {
    const size_t in = std::min(size_ - s.at, kPiece), out = std::min(n - done, kPiece);
    s.z.next_in = const_cast<uint8_t*>(data_) + s.at;
    s.z.avail_in = static_cast<uInt>(in);
    s.z.next_out = to + done;
    s.z.avail_out = static_cast<uInt>(out);
    const int code = inflate(&s.z, Z_NO_FLUSH);
    s.at += in - s.z.avail_in;
    done += out - s.z.avail_out;
    if (code == Z_STREAM_END) {
      if (s.at == size_) {
        s.ended = true;
      } else if (is_gzip(data_ + s.at, size_ - s.at)) {
        inflateReset(&s.z);  // a file may consist of several members
      } else {
        return make_status(StatusCode::data_error, name_, ": ", size_ - s.at, " bytes behind the gzip data");
      }
    } else if (code == Z_BUF_ERROR || (code == Z_OK && s.at == size_ && s.z.avail_out > 0)) {
      return make_status(StatusCode::data_error, name_, ": truncated gzip data");
    } else if (code != Z_OK) {
      return make_status(StatusCode::data_error, name_, ": corrupt gzip data (", s.z.msg ? s.z.msg : "dictionary", ")");
    }
  }
  return done;
}

#else

struct Gunzip::Stream {};

Gunzip::Gunzip(const uint8_t* data, size_t size, std::string name) : data_(data), size_(size), name_(std::move(name)) {}

Result<size_t> Gunzip::read(uint8_t*, size_t) {
  return make_status(StatusCode::unavailable, name_,
                     ": this program was built without zlib: unpack the file with gunzip, or build with zlib");
}

#endif

Gunzip::~Gunzip() = default;

}  // namespace sinew::nn
