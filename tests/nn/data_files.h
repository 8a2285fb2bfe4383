// Small files of data sets for the readers' tests.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "nn/data/dataset.h"
#include "tests/fuzz/mutate.h"

namespace sinew::nn {

using fuzz::Bytes;

#define EXPECT_HAS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

inline uint32_t crc32_of(const Bytes& bytes) {  // RFC 1952, section 8
  uint32_t crc = ~0u;
  for (uint8_t byte : bytes) {
    crc ^= byte;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0xedb88320u : crc >> 1;
  }
  return ~crc;
}

// A gzip file by hand: header, stored blocks, checksum, length.
inline Bytes gzip_of(const Bytes& content) {
  Bytes bytes = {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255};
  for (size_t at = 0; at == 0 || at < content.size();) {
    const size_t n = std::min<size_t>(content.size() - at, 65535);
    bytes.push_back(at + n == content.size());
    for (size_t v : {n & 255, n >> 8, ~n & 255, (~n >> 8) & 255}) bytes.push_back(static_cast<uint8_t>(v));
    bytes.insert(bytes.end(), content.begin() + static_cast<std::ptrdiff_t>(at),
                 content.begin() + static_cast<std::ptrdiff_t>(at + n));
    at += n;
    if (content.empty()) break;
  }
  for (uint32_t word : {crc32_of(content), static_cast<uint32_t>(content.size())})
    for (int shift : {0, 8, 16, 24}) bytes.push_back(static_cast<uint8_t>(word >> shift));
  return bytes;
}

// A folder that goes away with the object.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = testing::TempDir() + "sinew-data-XXXXXX";
    path = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  std::string at(const std::string& name) const { return path + "/" + name; }
  void put(const std::string& name, const Bytes& bytes) const {
    std::filesystem::create_directories(std::filesystem::path(at(name)).parent_path());
    std::ofstream(at(name), std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  void put(const std::string& name, const std::string& text) const { put(name, Bytes(text.begin(), text.end())); }
  void remove(const std::string& name) const { std::filesystem::remove(at(name)); }

  std::string path;
};

// The message of data that must not open: one line with this code.
inline std::string refusal(const DataOptions& options, StatusCode code = StatusCode::data_error) {
  const Result<DataSplit> data = open_data(options);
  EXPECT_FALSE(data.ok());
  if (data.ok()) return "";
  EXPECT_EQ(data.status().code(), code) << data.status().message();
  EXPECT_TRUE(fuzz::is_one_line(data.status().message())) << data.status().message();
  return data.status().message();
}

}  // namespace sinew::nn
