// Unpacking gzip data (RFC 1952) piece by piece, so that the reader decides how much may come out.
//
// Thread safety: a Gunzip belongs to one thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "core/status.h"

namespace sinew::nn {

bool is_gzip(const uint8_t* data, size_t size);

class Gunzip {
 public:
  // data must outlive it; `name` is for messages.
  Gunzip(const uint8_t* data, size_t size, std::string name);
  ~Gunzip();
  // No gzip file of this size can unpack to more: deflate's shortest code stands for 258 bytes in 2 bits.
  uint64_t most() const { return 1032 * uint64_t{size_}; }
  // The next n bytes, fewer only at the end of the data, whose checksum has been verified then.
  // Errors: data_error for corrupt or truncated data and for bytes behind it; unavailable without zlib.
  Result<size_t> read(uint8_t* to, size_t n);

 private:
  struct Stream;
  const uint8_t* data_;
  size_t size_;
  std::string name_;
  std::unique_ptr<Stream> stream_;
};

}  // namespace sinew::nn
