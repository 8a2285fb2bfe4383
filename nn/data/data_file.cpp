#include "nn/data/data_file.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "nn/data/gunzip.h"

namespace sinew::nn {

namespace fs = std::filesystem;

Result<std::vector<uint8_t>> read_data_file(const std::string& path, uint64_t most) {
  std::error_code error;
  const fs::file_type type = fs::status(path, error).type();
  if (type == fs::file_type::not_found) return make_status(StatusCode::not_found, path, ": no such file");
  if (type == fs::file_type::none) return make_status(StatusCode::io_error, path, ": ", error.message());
  if (type != fs::file_type::regular) return bad_data(path, "not a regular file");
  const uint64_t size = fs::file_size(path, error);
  if (error) return make_status(StatusCode::io_error, path, ": ", error.message());
  if (size > most) return bad_data(path, size, " bytes, at most ", most, " are read");
  std::vector<uint8_t> bytes(size);
  std::ifstream in(path, std::ios::binary);
  if (!in.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(size)))
    return make_status(StatusCode::io_error, path, ": cannot read its ", size, " bytes (permissions?)");
  return bytes;
}

Result<std::vector<uint8_t>> unpacked(std::vector<uint8_t> bytes, const std::string& name, uint64_t most) {
  if (!is_gzip(bytes.data(), bytes.size())) return bytes;
  Gunzip packed(bytes.data(), bytes.size(), name);
  std::vector<uint8_t> out;
  // Grows with what really comes, so that a small file cannot ask for much memory.
  for (uint64_t piece = uint64_t{1} << 20;; piece *= 2) {
    const uint64_t had = out.size(), wanted = std::min(piece, most + 1 - had);
    out.resize(had + wanted);
    Result<size_t> n = packed.read(out.data() + had, wanted);
    if (!n.ok()) return n.status();
    out.resize(had + *n);
    if (*n < wanted) return out;
    if (out.size() > most) return bad_data(name, "unpacks to more than ", most, " bytes");
  }
}

std::string find_data_file(const std::string& dir, const std::string& stem) {
  for (const char* packed : {"", ".gz"}) {
    const fs::path path = fs::path(dir) / (stem + packed);
    std::error_code error;
    if (fs::exists(path, error)) return path.string();
  }
  return "";
}

Status check_data_folder(const std::string& set, const std::string& dir, const std::string& expected) {
  if (dir.empty())
    return make_status(StatusCode::not_found, "data set ", set, " needs its files: type --data.dir DIR; ", expected);
  std::error_code error;
  if (!fs::is_directory(dir, error))
    return make_status(StatusCode::not_found, "data.dir '", dir, "' is not a folder: type --data.dir DIR; ", expected);
  return Status::Ok();
}

}  // namespace sinew::nn
