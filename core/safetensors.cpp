#include "core/safetensors.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <system_error>
#include <utility>

namespace sinew {
namespace {

static_assert(std::endian::native == std::endian::little, "file data is little-endian and copied as it is");

constexpr uint64_t kMaxHeader = 100'000'000;  // the format's own limit
constexpr const char* kMetadata = "__metadata__";

struct TypeName {
  DType dtype;
  const char* name;
};
constexpr TypeName kTypes[] = {
    {DType::f32, "F32"}, {DType::f64, "F64"}, {DType::i32, "I32"}, {DType::i64, "I64"}, {DType::u8, "U8"}};

// A string of the file for a message: one line of printable ASCII, not too long.
std::string shown(const std::string& text) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out = "'";
  for (unsigned char c : text.substr(0, 60)) {
    if (c >= 0x20 && c < 0x7f) {
      out += static_cast<char>(c);
    } else {
      out += {'\\', 'x', kDigits[c >> 4], kDigits[c & 15]};
    }
  }
  return out + (text.size() > 60 ? "...'" : "'");
}

struct Entry {
  DType dtype = DType::f32;
  Shape shape;
  uint64_t begin = 0, end = 0;  // bytes from the start of the data
};

struct Header {
  std::map<std::string, Entry> entries;
  std::map<std::string, std::string> metadata;
};

// Builds the header from the parser's events. A document tree would hide duplicate keys and would hold whatever
// nesting a hostile file brings; here every event has exactly one place where it is allowed.
class HeaderReader {
 public:
  HeaderReader(uint64_t data_size, Header& header) : data_size_(data_size), header_(header) {}
  const std::string& error() const { return error_; }

  bool start_object(size_t) {
    if (where_ == Where::outside) return enter(Where::top);
    if (where_ == Where::top && in_metadata_) return enter(Where::metadata);
    if (where_ == Where::top) {
      entry_ = {}, dims_.clear(), offsets_.clear(), fields_.clear();
      return enter(Where::tensor);
    }
    return fail(subject(), "unexpected object");
  }
  bool key(std::string& name) {
    if (where_ == Where::top) {
      in_metadata_ = name == kMetadata;
      if (in_metadata_ ? seen_metadata_ : header_.entries.count(name) > 0) return fail("duplicate key ", shown(name));
      seen_metadata_ |= in_metadata_;
      name_ = name;
    } else if (where_ == Where::metadata) {
      field_ = name;
      if (header_.metadata.count(name) > 0) return fail(subject(), "duplicate key ", shown(name));
    } else {
      field_ = name;
      if (field_ != "dtype" && field_ != "shape" && field_ != "data_offsets")
        return fail(subject(), "unknown field ", shown(name), ", allowed are dtype, shape, data_offsets");
      if (std::find(fields_.begin(), fields_.end(), name) != fields_.end())
        return fail(subject(), "duplicate key ", shown(name));
      fields_.push_back(name);
    }
    return true;
  }
  bool string(std::string& value) {
    if (where_ == Where::metadata) {
      header_.metadata[field_] = value;
      return true;
    }
    if (where_ != Where::tensor || field_ != "dtype") return fail(subject(), "unexpected string");
    for (const TypeName& type : kTypes) {
      if (value == type.name) {
        entry_.dtype = type.dtype;
        return true;
      }
    }
    return fail(subject(), "type ", shown(value), " is not one of F32, F64, I32, I64, U8");
  }
  bool start_array(size_t) {
    if (where_ == Where::tensor && field_ == "shape") return enter(Where::shape);
    if (where_ == Where::tensor && field_ == "data_offsets") return enter(Where::offsets);
    return fail(subject(), "unexpected array");
  }
  bool number_unsigned(uint64_t value) {
    if (where_ == Where::shape) {
      if (dims_.size() == size_t{kMaxDims}) return fail(subject(), "more than ", kMaxDims, " dimensions");
      dims_.push_back(value);
      return true;
    }
    if (where_ == Where::offsets) {
      offsets_.push_back(value);
      return offsets_.size() <= 2 ? true : fail(subject(), "data_offsets has more than two numbers");
    }
    return fail(subject(), "unexpected number ", value);
  }
  bool end_array() {
    where_ = Where::tensor;
    return true;
  }
  bool end_object() {
    if (where_ == Where::top) return enter(Where::outside);
    where_ = Where::top;
    return in_metadata_ || finish_tensor();
  }
  bool number_integer(int64_t value) { return fail(subject(), "negative number ", value); }
  bool number_float(double, const std::string& text) {
    return fail(subject(), "number ", shown(text), " is not an unsigned 64-bit integer");
  }
  bool null() { return fail(subject(), "unexpected null"); }
  bool boolean(bool) { return fail(subject(), "unexpected boolean"); }
  bool binary(std::vector<uint8_t>&) { return fail(subject(), "unexpected binary value"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::json::exception&) {
    return fail("the header is not valid JSON (UTF-8) at byte ", position);
  }

 private:
  enum class Where { outside, top, metadata, tensor, shape, offsets };

  bool enter(Where where) {
    where_ = where;
    return true;
  }
  template <class... Parts>
  bool fail(const Parts&... parts) {
    error_ = detail::concat(parts...);
    return false;
  }
  std::string subject() const {
    if (name_.empty() && where_ == Where::outside) return "the header: ";
    return (in_metadata_ ? "" : "tensor ") + shown(name_) + ": ";
  }

  bool finish_tensor() {
    if (fields_.size() != 3) return fail(subject(), "needs each of dtype, shape, data_offsets");
    constexpr uint64_t kMax = uint64_t{1} << 62;  // Shape's limit
    uint64_t elements = 1;
    for (uint64_t d : dims_) {
      if (d > kMax || (d != 0 && elements > kMax / d)) return fail(subject(), "the shape has too many elements");
      elements *= d;
      entry_.shape.push_back(static_cast<int64_t>(d));
    }
    if (offsets_.size() != 2 || offsets_[0] > offsets_[1])
      return fail(subject(), "data_offsets are not two ascending numbers");
    entry_.begin = offsets_[0], entry_.end = offsets_[1];
    if (entry_.end > data_size_)
      return fail(subject(), "data_offsets end at ", entry_.end, ", the file has ", data_size_, " bytes of data");
    const uint64_t bytes = entry_.end - entry_.begin;
    if (bytes % size_of(entry_.dtype) != 0 || bytes / size_of(entry_.dtype) != elements)
      return fail(subject(), "shape ", entry_.shape, " ", to_string(entry_.dtype), " does not fill the ", bytes,
                  " bytes of its data_offsets");
    header_.entries.emplace(name_, entry_);
    return true;
  }

  const uint64_t data_size_;
  Header& header_;
  std::string error_, name_, field_;
  Where where_ = Where::outside;
  bool in_metadata_ = false, seen_metadata_ = false;
  Entry entry_;
  std::vector<uint64_t> dims_, offsets_;
  std::vector<std::string> fields_;
};

// The length of the header from the file's first 8 bytes.
Result<uint64_t> header_length(const void* first, uint64_t file_size, const std::string& name) {
  if (file_size < 8)
    return make_status(StatusCode::data_error, name, ": ", file_size, " bytes are too few for a safetensors file");
  uint64_t length;
  std::memcpy(&length, first, 8);
  if (length > kMaxHeader)
    return make_status(StatusCode::data_error, name, ": a header of ", length, " bytes, at most ", kMaxHeader,
                       " are allowed; not a safetensors file?");
  if (length > file_size - 8)
    return make_status(StatusCode::data_error, name, ": a header of ", length, " bytes does not fit the file of ",
                       file_size, " bytes (truncated?)");
  return length;
}

Result<Header> parse_header(const char* text, size_t size, uint64_t data_size, const std::string& name) {
  if (size == 0 || text[0] != '{')
    return make_status(StatusCode::data_error, name, ": the header does not begin with '{'; not a safetensors file?");
  Header header;
  HeaderReader reader(data_size, header);
  if (!nlohmann::json::sax_parse(text, text + size, &reader))
    return make_status(StatusCode::data_error, name, ": ", reader.error());

  // The data must be covered exactly: no holes, no overlaps, nothing behind.
  std::vector<const std::pair<const std::string, Entry>*> order;
  for (const auto& item : header.entries) order.push_back(&item);
  std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  uint64_t covered = 0;
  for (const auto* item : order) {
    if (item->second.begin != covered)
      return make_status(
          StatusCode::data_error, name, ": tensor ", shown(item->first), ": its data begin at ", item->second.begin,
          ", ", item->second.begin < covered ? "inside another tensor" : "after a hole", " (expected ", covered, ")");
    covered = item->second.end;
  }
  if (covered != data_size)
    return make_status(StatusCode::data_error, name, ": ", data_size - covered, " trailing bytes belong to no tensor");
  return header;
}

// Hands out the tensors; fetch(begin, bytes, destination) copies from the data.
template <class Fetch>
Result<SafetensorsFile> load(Header header, const Fetch& fetch) {
  SafetensorsFile file;
  file.metadata = std::move(header.metadata);
  for (const auto& [name, entry] : header.entries) {
    NamedArray& array = file.tensors[name];
    array.dtype = entry.dtype;
    array.shape = entry.shape;
    array.bytes.resize(entry.end - entry.begin);
    SINEW_RETURN_IF_ERROR(fetch(entry.begin, array.bytes.size(), array.bytes.data()));
  }
  return file;
}

class File {
 public:
  File(const std::string& path, int flags) : fd_(::open(path.c_str(), flags | O_CLOEXEC, 0644)) {}
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  int fd() const { return fd_; }
  // Closes now; false when the system reports a late write error.
  bool close() { return ::close(std::exchange(fd_, -1)) == 0; }

 private:
  int fd_;
};

Status system_error(const std::string& path, const char* what) {
  const int error = errno;
  return make_status(error == ENOENT ? StatusCode::not_found : StatusCode::io_error, path, ": ", what, ": ",
                     std::generic_category().message(error));
}

Status read_at(const File& file, uint64_t offset, size_t bytes, void* to, const std::string& path) {
  auto* p = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t n = ::pread(file.fd(), p, bytes, static_cast<off_t>(offset));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return system_error(path, "cannot read");
    if (n == 0) return make_status(StatusCode::data_error, path, ": the file became shorter while it was read");
    p += n, offset += static_cast<uint64_t>(n), bytes -= static_cast<size_t>(n);
  }
  return Status::Ok();
}

bool write_all(const File& file, const void* from, size_t bytes) {
  const auto* p = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t n = ::write(file.fd(), p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return false;
    p += n, bytes -= static_cast<size_t>(n);
  }
  return true;
}

}  // namespace

Result<SafetensorsFile> parse_safetensors(const std::byte* data, size_t size, const std::string& name) {
  Result<uint64_t> length = header_length(data, size, name);
  if (!length.ok()) return length.status();
  const std::byte* values = data + 8 + *length;
  Result<Header> header = parse_header(reinterpret_cast<const char*>(data + 8), *length, size - 8 - *length, name);
  if (!header.ok()) return header.status();
  return load(std::move(header).value(), [&](uint64_t begin, size_t bytes, std::byte* to) {
    if (bytes > 0) std::memcpy(to, values + begin, bytes);
    return Status::Ok();
  });
}

Result<SafetensorsFile> read_safetensors(const std::string& path) {
  // O_NONBLOCK: opening a pipe must not wait for a writer; regular files ignore it.
  File file(path, O_RDONLY | O_NONBLOCK);
  if (file.fd() < 0) return system_error(path, "cannot open");
  struct stat info;
  if (::fstat(file.fd(), &info) != 0) return system_error(path, "cannot read");
  if (!S_ISREG(info.st_mode)) return make_status(StatusCode::data_error, path, ": not a regular file");
  const auto size = static_cast<uint64_t>(info.st_size);

  char first[8] = {};
  if (size >= sizeof first) SINEW_RETURN_IF_ERROR(read_at(file, 0, sizeof first, first, path));
  Result<uint64_t> length = header_length(first, size, path);
  if (!length.ok()) return length.status();
  std::vector<char> text(*length);
  SINEW_RETURN_IF_ERROR(read_at(file, 8, text.size(), text.data(), path));
  Result<Header> header = parse_header(text.data(), text.size(), size - 8 - text.size(), path);
  if (!header.ok()) return header.status();
  return load(std::move(header).value(), [&](uint64_t begin, size_t bytes, std::byte* to) {
    return read_at(file, 8 + text.size() + begin, bytes, to, path);
  });
}

Status write_safetensors(const std::string& path, const SafetensorsFile& file) {
  // Wide types first, so that every tensor of a mapped file is aligned to its type.
  std::vector<const std::pair<const std::string, NamedArray>*> order;
  for (const auto& item : file.tensors) order.push_back(&item);
  std::stable_sort(order.begin(), order.end(),
                   [](const auto* a, const auto* b) { return size_of(a->second.dtype) > size_of(b->second.dtype); });

  nlohmann::json header = nlohmann::json::object();
  if (!file.metadata.empty()) header[kMetadata] = file.metadata;
  uint64_t offset = 0;
  for (const auto* item : order) {
    const auto& [name, array] = *item;
    SINEW_CHECK(array.bytes.size() == static_cast<size_t>(array.shape.numel()) * size_of(array.dtype),
                "write_safetensors", "tensor '", name, "' has ", array.bytes.size(), " bytes for shape ", array.shape,
                " ", to_string(array.dtype));
    SINEW_CHECK(name != kMetadata, "write_safetensors", "a tensor cannot be named ", kMetadata);
    const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes),
                                    [&array = array](const TypeName& t) { return t.dtype == array.dtype; });
    SINEW_CHECK(type != std::end(kTypes), "write_safetensors", "tensor '", name, "' is ", to_string(array.dtype),
                ", which files do not have");
    header[name] = {{"dtype", type->name},
                    {"shape", std::vector<int64_t>(array.shape.dims().begin(), array.shape.dims().end())},
                    {"data_offsets", {offset, offset + array.bytes.size()}}};
    offset += array.bytes.size();
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const nlohmann::json::type_error&) {
    return make_status(StatusCode::invalid_argument, path, ": tensor names and metadata must be valid UTF-8");
  }
  text.resize((text.size() + 7) / 8 * 8, ' ');
  if (text.size() > kMaxHeader)
    return make_status(StatusCode::invalid_argument, path, ": the header would need ", text.size(), " bytes, at most ",
                       kMaxHeader, " are allowed");

  const std::string temporary = path + ".tmp";
  File out(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  if (out.fd() < 0) return system_error(temporary, "cannot create");
  const uint64_t length = text.size();
  bool written = write_all(out, &length, 8) && write_all(out, text.data(), text.size());
  for (size_t i = 0; written && i < order.size(); ++i)
    written = write_all(out, order[i]->second.bytes.data(), order[i]->second.bytes.size());
  written = written && ::fsync(out.fd()) == 0 && out.close() && ::rename(temporary.c_str(), path.c_str()) == 0;
  if (!written) {
    Status failure = system_error(path, "cannot write");
    ::unlink(temporary.c_str());
    return failure;
  }
  // Makes the rename itself durable. Some file systems cannot; the file is complete either way.
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  File directory(folder.empty() ? "." : folder.string(), O_RDONLY | O_DIRECTORY);
  if (directory.fd() >= 0) (void)::fsync(directory.fd());
  return Status::Ok();
}

}  // namespace sinew
