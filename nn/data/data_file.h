// Whole files of a data set in memory, with the error lines that all readers share.
//
// Thread safety: free functions.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace sinew::nn {

inline constexpr uint64_t kMaxDataFile = uint64_t{1} << 31;  // bytes

// "<name>: parts...", a data_error.
template <class... Parts>
Status bad_data(const std::string& name, const Parts&... parts) {
  return make_status(StatusCode::data_error, name, ": ", parts...);
}

// The bytes of a regular file of at most `most` bytes. not_found, io_error, data_error; each names the file.
Result<std::vector<uint8_t>> read_data_file(const std::string& path, uint64_t most = kMaxDataFile);

// What a file's bytes hold: themselves or, if they begin like gzip, what they unpack to, at most `most` bytes. `name`
// is for messages. Errors: data_error; unavailable for gzip in a build without zlib.
Result<std::vector<uint8_t>> unpacked(std::vector<uint8_t> bytes, const std::string& name,
                                      uint64_t most = kMaxDataFile);

// The first of dir/stem, dir/stem.gz that exists, or "".
std::string find_data_file(const std::string& dir, const std::string& stem);
// not_found unless dir is a folder; `expected` says which files are wanted.
Status check_data_folder(const std::string& set, const std::string& dir, const std::string& expected);

}  // namespace sinew::nn
