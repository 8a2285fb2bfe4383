#include "nn/data/idx.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "nn/data/data_file.h"
#include "nn/data/gunzip.h"
#include "nn/data/u8_dataset.h"

namespace sinew::nn {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxValues = uint64_t{1} << 31;  // of one file; MNIST has 47 million
constexpr uint8_t kUnsignedByte = 8;

const char* element_type(uint8_t code) {
  switch (code) {
    case 0x09:
      return "signed bytes";
    case 0x0b:
      return "16-bit integers";
    case 0x0c:
      return "32-bit integers";
    case 0x0d:
      return "32-bit floats";
    case 0x0e:
      return "64-bit floats";
    default:
      return "an unknown type";
  }
}

// read(to, n) gives the next n bytes, fewer at the end. No more than `most` can come; `exact`: as many do come.
template <class Read>
Result<IdxArray> parse(const Read& read, uint64_t most, bool exact, const std::string& name) {
  uint8_t head[4 + 4 * kMaxDims];
  Result<size_t> n = read(head, 4);
  if (!n.ok()) return n.status();
  if (*n < 4) return bad_data(name, *n, " bytes are too few for an IDX file");
  if (head[0] != 0 || head[1] != 0)
    return bad_data(name, "not an IDX file: it begins with bytes ", int{head[0]}, " ", int{head[1]}, ", expected 0 0");
  if (head[2] != kUnsignedByte)
    return bad_data(name, "elements are ", element_type(head[2]), " (code ", int{head[2]},
                    "), only unsigned bytes (code 8) are read");
  const size_t dims = head[3], header = 4 + 4 * dims;
  if (dims == 0 || dims > size_t{kMaxDims}) return bad_data(name, dims, " dimensions, allowed are 1 to ", kMaxDims);
  n = read(head + 4, header - 4);
  if (!n.ok()) return n.status();
  if (*n < header - 4) return bad_data(name, "truncated in its header of ", header, " bytes");

  IdxArray array;
  uint64_t values = 1;
  bool too_many = false;
  for (size_t i = 0; i < dims; ++i) {
    const uint8_t* p = head + 4 + 4 * i;
    const uint64_t extent = uint64_t{p[0]} << 24 | uint64_t{p[1]} << 16 | uint64_t{p[2]} << 8 | p[3];
    array.shape.push_back(static_cast<int64_t>(extent));
    too_many |= extent != 0 && values > kMaxValues / extent;
    if (!too_many) values *= extent;
  }
  if (too_many) return bad_data(name, "shape ", array.shape, " has more than ", kMaxValues, " values");
  const uint64_t expected = header + values;
  const std::string needs = detail::concat("shape ", array.shape, " needs ", expected, " bytes, ");
  if (exact && expected != most)
    return bad_data(name, expected > most ? "truncated: " : "trailing bytes: ", needs, "the file has ", most);
  if (expected > most) return bad_data(name, "truncated: ", needs, "the file unpacks to at most ", most);
  array.values.resize(values);
  n = read(array.values.data(), values);
  if (!n.ok()) return n.status();
  if (*n < values) return bad_data(name, "truncated: ", needs, "the file unpacks to ", header + *n);
  uint8_t extra;
  n = read(&extra, 1);
  if (!n.ok()) return n.status();
  if (*n > 0) return bad_data(name, "trailing bytes: ", needs, "the file unpacks to more");
  return array;
}

std::string expected_files() {
  return "expected are train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, "
         "t10k-labels-idx1-ubyte, each plain or .gz";
}

Result<std::string> find_file(const std::string& dir, const std::string& stem, const std::string& kind) {
  for (const char* separator : {"-", "."}) {
    for (const char* packed : {"", ".gz"}) {
      const fs::path path = fs::path(dir) / (stem + separator + kind + packed);
      std::error_code error;
      if (fs::exists(path, error)) return path.string();
    }
  }
  return make_status(StatusCode::not_found, "data.dir '", dir, "' has no ", stem, "-", kind, " (or .gz); ",
                     expected_files());
}

struct Part {
  std::string image_file, label_file;
  IdxArray images, labels;
};

Result<Part> open_part(const std::string& dir, const std::string& stem) {
  Result<std::string> image_file = find_file(dir, stem + "-images", "idx3-ubyte");
  if (!image_file.ok()) return image_file.status();
  Result<std::string> label_file = find_file(dir, stem + "-labels", "idx1-ubyte");
  if (!label_file.ok()) return label_file.status();
  Result<IdxArray> images = read_idx(*image_file);
  if (!images.ok()) return images.status();
  Result<IdxArray> labels = read_idx(*label_file);
  if (!labels.ok()) return labels.status();
  if (images->shape.ndim() != 3)
    return bad_data(*image_file, "shape ", images->shape, ", expected three dimensions: images, rows, columns");
  if (labels->shape.ndim() != 1) return bad_data(*label_file, "shape ", labels->shape, ", expected one dimension");
  if (images->values.empty()) return bad_data(*image_file, "shape ", images->shape, " holds no pixels");
  if (images->shape[0] != labels->shape[0])
    return bad_data(*image_file, images->shape[0], " images, but ", labels->shape[0], " labels in ", *label_file);
  return Part{*image_file, *label_file, std::move(*images), std::move(*labels)};
}

U8Samples samples_of(Part part, const std::string& name, int64_t classes) {
  U8Samples samples;
  samples.name = name;
  samples.sample_shape = {part.images.shape[1], part.images.shape[2], 1};
  samples.classes = classes;
  for (int64_t c = 0; c < classes; ++c) samples.class_names.push_back(std::to_string(c));
  samples.mean = {kMnistMean}, samples.std = {kMnistStd};
  samples.values = std::move(part.images.values);
  samples.labels.assign(part.labels.values.begin(), part.labels.values.end());
  return samples;
}

}  // namespace

Result<IdxArray> parse_idx(const uint8_t* data, size_t size, const std::string& name) {
  if (is_gzip(data, size)) {
    Gunzip packed(data, size, name);
    return parse([&](uint8_t* to, size_t n) { return packed.read(to, n); }, packed.most(), false, name);
  }
  size_t at = 0;
  auto read = [&](uint8_t* to, size_t n) -> Result<size_t> {
    n = std::min(n, size - at);
    if (n > 0) std::memcpy(to, data + at, n);
    at += n;
    return n;
  };
  return parse(read, size, true, name);
}

Result<IdxArray> read_idx(const std::string& path) {
  Result<std::vector<uint8_t>> bytes = read_data_file(path, kMaxValues + 64);
  if (!bytes.ok()) return bytes.status();
  return parse_idx(bytes->data(), bytes->size(), path);
}

Result<DataSplit> open_idx(const std::string& name, const std::string& dir, const ImageOptions& options) {
  SINEW_RETURN_IF_ERROR(check_data_folder(name, dir, expected_files()));
  Result<Part> train = open_part(dir, "train");
  if (!train.ok()) return train.status();
  Result<Part> test = open_part(dir, "t10k");
  if (!test.ok()) return test.status();
  for (int axis : {1, 2})
    if (train->images.shape[axis] != test->images.shape[axis])
      return bad_data(test->image_file, "shape ", test->images.shape, " does not match the training images' ",
                      train->images.shape);
  const int64_t classes = std::max<int64_t>(10, 1 + *std::ranges::max_element(train->labels.values));
  const int64_t highest = *std::ranges::max_element(test->labels.values);
  if (highest >= classes)
    return bad_data(test->label_file, "label ", highest, ", but the training labels give only ", classes, " classes");
  return make_u8_split(samples_of(std::move(*train), name, classes), samples_of(std::move(*test), name, classes),
                       options);
}

}  // namespace sinew::nn
