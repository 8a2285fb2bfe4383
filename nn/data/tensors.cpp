#include "nn/data/tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "nn/data/data_file.h"
#include "nn/data/f32_dataset.h"
#include "nn/data/subset.h"
#include "nn/data/u8_dataset.h"

namespace sinew::nn {
namespace {

constexpr int64_t kMaxLabels = 1 << 20;

// One file's samples. x stays in the type it has: bytes or floats, one of the two is empty.
struct Part {
  std::string name;
  Shape sample_shape;
  std::vector<uint8_t> bytes;
  std::vector<float> floats;
  std::vector<int32_t> labels;
  std::vector<float> targets;
  int64_t width = 0;  // numbers of a target; 0 for labels
};

template <class T>
std::vector<T> values_of(const NamedArray& array) {
  std::vector<T> values(array.bytes.size() / sizeof(T));
  if (!values.empty()) std::memcpy(values.data(), array.bytes.data(), values.size() * sizeof(T));
  return values;
}

// (N, C, H, W) to (N, H, W, C).
template <class T>
std::vector<T> interleaved(const std::vector<T>& planes, int64_t n, int64_t channels, int64_t pixels) {
  std::vector<T> out(planes.size());
  for (int64_t i = 0; i < n; ++i)
    for (int64_t c = 0; c < channels; ++c)
      for (int64_t p = 0; p < pixels; ++p)
        out[static_cast<size_t>((i * pixels + p) * channels + c)] =
            planes[static_cast<size_t>((i * channels + c) * pixels + p)];
  return out;
}

Status read_labels(const NamedArray& y, int64_t n, Part& part) {
  const std::string& name = part.name;
  if (y.dtype == DType::f32) {
    const bool one = y.shape.ndim() == 1;
    if ((!one && y.shape.ndim() != 2) || y.shape[0] != n || (!one && y.shape[1] < 1))
      return bad_data(name, "y is ", y.shape, " f32, expected (", n, ") or (", n, ", k)");
    part.width = one ? 1 : y.shape[1];
    part.targets = values_of<float>(y);
    for (size_t i = 0; i < part.targets.size(); ++i)
      if (!std::isfinite(part.targets[i]))
        return bad_data(name, "y is ", part.targets[i], " in sample ", static_cast<int64_t>(i) / part.width);
    return Status::Ok();
  }
  if (y.dtype != DType::i64 && y.dtype != DType::i32)
    return bad_data(name, "y is ", to_string(y.dtype), ", expected labels i64 or number targets f32");
  if (!(y.shape == Shape{n}))
    return bad_data(name, "y is ", y.shape, " ", to_string(y.dtype), ", expected (", n,
                    "), a label for each sample of x");
  std::vector<int64_t> wide = y.dtype == DType::i64 ? values_of<int64_t>(y) : std::vector<int64_t>();
  if (y.dtype == DType::i32)
    for (int32_t label : values_of<int32_t>(y)) wide.push_back(label);
  for (size_t i = 0; i < wide.size(); ++i) {
    if (wide[i] < 0 || wide[i] >= kMaxLabels)
      return bad_data(name, "y has the label ", wide[i], " in sample ", i, ", allowed are 0 to ", kMaxLabels - 1);
    part.labels.push_back(static_cast<int32_t>(wide[i]));
  }
  return Status::Ok();
}

Result<Part> part_of(const SafetensorsFile& file, const std::string& name, bool channels_first) {
  const auto x = file.tensors.find("x"), y = file.tensors.find("y");
  for (const auto& [found, wanted] : {std::pair(x, "x"), std::pair(y, "y")})
    if (found == file.tensors.end())
      return bad_data(name, "no tensor named ", wanted,
                      "; expected are x (N, ...) f32 or u8, and y: labels (N) i64 or "
                      "numbers (N) or (N, k) f32");
  const Shape& shape = x->second.shape;
  if (x->second.dtype != DType::f32 && x->second.dtype != DType::u8)
    return bad_data(name, "x is ", to_string(x->second.dtype), ", expected f32 or u8");
  if (shape.ndim() < 2 || x->second.bytes.empty())
    return bad_data(name, "x is ", shape, ", expected (N, ...) with at least one sample");
  const int64_t n = shape[0];
  Part part{.name = name,
            .sample_shape = Shape(shape.dims().subspan(1)),
            .bytes = {},
            .floats = {},
            .labels = {},
            .targets = {}};
  if (x->second.dtype == DType::u8)
    part.bytes = values_of<uint8_t>(x->second);
  else
    part.floats = values_of<float>(x->second);
  for (size_t i = 0; i < part.floats.size(); ++i)
    if (!std::isfinite(part.floats[i]))
      return bad_data(name, "x holds ", part.floats[i], " in sample ",
                      static_cast<int64_t>(i) / part.sample_shape.numel());
  if (channels_first && part.sample_shape.ndim() == 3) {
    const int64_t c = shape[1], h = shape[2], w = shape[3];
    part.sample_shape = {h, w, c};
    part.bytes = interleaved(part.bytes, part.bytes.empty() ? 0 : n, c, h * w);
    part.floats = interleaved(part.floats, part.floats.empty() ? 0 : n, c, h * w);
  }
  SINEW_RETURN_IF_ERROR(read_labels(y->second, n, part));
  return part;
}

std::vector<std::string> numbered(int64_t classes) {
  std::vector<std::string> names;
  for (int64_t c = 0; c < classes; ++c) names.push_back(std::to_string(c));
  return names;
}

DatasetPtr dataset_of(Part part, int64_t classes, const ImageOptions& o) {
  std::vector<std::string> names = part.width > 0 ? std::vector<std::string>() : numbered(classes);
  if (!part.bytes.empty())
    return std::make_shared<U8Dataset>(U8Samples{.name = "tensors",
                                                 .sample_shape = part.sample_shape,
                                                 .classes = classes,
                                                 .class_names = std::move(names),
                                                 .values = std::move(part.bytes),
                                                 .labels = std::move(part.labels),
                                                 .targets = std::move(part.targets)},
                                       o);
  F32Samples samples{.name = "tensors",
                     .sample_shape = part.sample_shape,
                     .classes = classes,
                     .class_names = std::move(names),
                     .values = std::move(part.floats),
                     .labels = std::move(part.labels),
                     .targets = std::move(part.targets)};
  if (!o.mean.empty() || !o.std.empty())
    normalise(samples, o.mean.empty() ? std::vector<double>{0} : o.mean,
              o.std.empty() ? std::vector<double>{1} : o.std);
  return std::make_shared<F32Dataset>(std::move(samples));
}

}  // namespace

Result<DataSplit> split_of_tensors(SafetensorsFile train_file, SafetensorsFile* test_file, const DataOptions& o) {
  Result<Part> train = part_of(train_file, o.file, o.channels_first);
  if (!train.ok()) return train.status();
  if (train->bytes.empty() && (o.image.augment != Augment::none || o.image.crop > 0))
    return make_status(StatusCode::invalid_argument, "data.augment, data.crop: x of ", o.file,
                       " holds f32; they work on images of bytes (u8)");
  if (train->bytes.empty())
    SINEW_RETURN_IF_ERROR(check_normalisation(o.image, train->sample_shape.dim(-1)));
  else
    SINEW_RETURN_IF_ERROR(check_image_options(o.image, train->sample_shape));
  int64_t classes = train->width;
  if (classes == 0) classes = 1 + *std::ranges::max_element(train->labels);
  if (test_file == nullptr) {
    Result<TestSplit> split = split_off_test(
        std::max(static_cast<int64_t>(train->labels.size()), static_cast<int64_t>(train->targets.size()) / classes),
        o.test_share);
    if (!split.ok()) return split.status();
    const DatasetPtr all = dataset_of(std::move(*train), classes, o.image);
    return DataSplit{std::make_shared<Subset>(all, std::move(split->train)),
                     std::make_shared<Subset>(all, std::move(split->test))};
  }
  Result<Part> test = part_of(*test_file, o.test_file, o.channels_first);
  if (!test.ok()) return test.status();
  if (!(test->sample_shape == train->sample_shape) || test->bytes.empty() != train->bytes.empty() ||
      test->width != train->width)
    return bad_data(o.test_file, "samples ", test->sample_shape, test->bytes.empty() ? " f32" : " u8", " with ",
                    test->width == 0 ? "labels" : std::to_string(test->width) + " target numbers",
                    " do not match the training samples ", train->sample_shape, train->bytes.empty() ? " f32" : " u8",
                    " with ", train->width == 0 ? "labels" : std::to_string(train->width) + " target numbers");
  for (int32_t label : test->labels)
    if (label >= classes)
      return bad_data(o.test_file, "y has the label ", label, ", but the training labels give only ", classes,
                      " classes");
  return DataSplit{dataset_of(std::move(*train), classes, o.image), dataset_of(std::move(*test), classes, o.image)};
}

Result<DataSplit> open_tensors(const DataOptions& o) {
  if (o.file.empty())
    return make_status(StatusCode::not_found,
                       "data set tensors needs a file: type --data.file FILE.safetensors (and --data.test_file)");
  Result<SafetensorsFile> train = read_safetensors(o.file);
  if (!train.ok()) return train.status();
  if (o.test_file.empty()) return split_of_tensors(std::move(*train), nullptr, o);
  Result<SafetensorsFile> test = read_safetensors(o.test_file);
  if (!test.ok()) return test.status();
  return split_of_tensors(std::move(*train), &*test, o);
}

}  // namespace sinew::nn
