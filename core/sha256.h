// SHA-256 (FIPS 180-4, section 6.2). It names contents (a run's parameters, generated data sets); nothing secret
// rests on it, so it is plain portable C++ (about 0.3 GB/s) and core needs no cryptography library.
//
// Thread safety: a Sha256 belongs to one thread at a time.
//
// Example:
//   Sha256 hash;
//   hash.update("ab", 2);
//   hash.update("c", 1);
//   hash.hex();  // "ba7816bf 8f01cfea ..." without the blanks; equals sha256_hex("abc", 3)
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace sinew {

class Sha256 {
 public:
  void update(const void* data, size_t bytes);
  // The digest of everything given so far; more may be given afterwards.
  std::array<uint8_t, 32> digest() const;
  // The digest as 64 lower-case hexadecimal digits.
  std::string hex() const;

 private:
  void compress(const uint8_t* blocks, size_t count);

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<uint8_t, 64> pending_{};  // the first bytes_ % 64 bytes of the next block
  uint64_t bytes_ = 0;
};

std::string sha256_hex(const void* data, size_t bytes);

}  // namespace sinew
