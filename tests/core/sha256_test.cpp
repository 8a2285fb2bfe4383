#include "core/sha256.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

namespace sinew {
namespace {

std::string of(const std::string& text) { return sha256_hex(text.data(), text.size()); }

// The examples of NIST's FIPS 180-4 pages ("abc", 448 and 896 bits, a million times "a") and the empty message
// and one of NIST's short-message vectors (0xbd).
TEST(Sha256, NistVectors) {
  EXPECT_EQ(of(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(of("\xbd"), "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
  EXPECT_EQ(of("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(of("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(
      of("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrst"
         "nopqrstu"),
      "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  EXPECT_EQ(of(std::string(1'000'000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

// NIST's test of zero bytes around the padding's corner cases (55, 56, 57, 64 bytes).
TEST(Sha256, PaddingBoundaries) {
  EXPECT_EQ(of(std::string(55, '\0')), "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
  EXPECT_EQ(of(std::string(56, '\0')), "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
  EXPECT_EQ(of(std::string(57, '\0')), "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785");
  EXPECT_EQ(of(std::string(64, '\0')), "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}

TEST(Sha256, PiecesGiveTheSameDigest) {
  std::string text;
  for (int i = 0; i < 300; ++i) text += static_cast<char>(i * 7);
  for (size_t size : {0u, 1u, 63u, 64u, 65u, 127u, 128u, 300u}) {
    const std::string whole = of(text.substr(0, size));
    for (size_t piece : {1u, 3u, 63u, 64u, 65u, 100u}) {
      Sha256 hash;
      for (size_t at = 0; at < size; at += piece) hash.update(text.data() + at, std::min(piece, size - at));
      EXPECT_EQ(hash.hex(), whole) << size << " bytes in pieces of " << piece;
    }
  }
}

TEST(Sha256, DigestDoesNotEndTheStream) {
  Sha256 hash;
  hash.update("ab", 2);
  EXPECT_EQ(hash.hex(), of("ab"));
  hash.update("c", 1);
  EXPECT_EQ(hash.hex(), of("abc"));
}

}  // namespace
}  // namespace sinew
