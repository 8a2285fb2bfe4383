#include "nn/data/dataset.h"

#include "nn/data/cifar.h"
#include "nn/data/csv.h"
#include "nn/data/idx.h"
#include "nn/data/image_folder.h"
#include "nn/data/synthetic.h"
#include "nn/data/tensors.h"

namespace sinew::nn {

int64_t Dataset::label(int64_t index) const {
  std::vector<float> input(static_cast<size_t>(sample_shape().numel()));
  int64_t label = 0;
  read(std::span(&index, 1), input.data(), &label);
  return label;
}

void Dataset::read_targets(std::span<const int64_t>, float*) const {
  SINEW_FAIL("read_targets", "the data set ", name(), " has labels");
}

std::vector<std::string> dataset_names() {
  return {"synthetic", "mnist", "cifar10", "cifar100", "images", "tensors", "csv"};
}

Result<DataSplit> open_data(const DataOptions& options) {
  if (options.name != "synthetic" && options.train_size != 0)
    return make_status(StatusCode::invalid_argument, "data.train_size ", options.train_size,
                       " is for synthetic data; the files decide the size of ", options.name);
  if (options.name == "synthetic") {
    if (options.train_size < 0 || options.train_size > kSyntheticMaxSize)
      return make_status(StatusCode::invalid_argument, "data.train_size ", options.train_size, " is not in 0 to ",
                         kSyntheticMaxSize, " (0: ", kSyntheticTrainSize, ")");
    return open_synthetic(options.seed, options.train_size == 0 ? kSyntheticTrainSize : options.train_size,
                          options.image);
  }
  if (options.name == "mnist") return open_idx(options.name, options.dir, options.image);
  if (options.name == "cifar10" || options.name == "cifar100")
    return open_cifar(options.name, options.dir, options.image);
  if (options.name == "images") return open_image_folder(options.dir, options.test_share, options.image);
  if (options.name == "tensors") return open_tensors(options);
  if (options.name == "csv") return open_csv(options);
  std::string known;
  for (const std::string& name : dataset_names()) known += (known.empty() ? "" : ", ") + name;
  return make_status(StatusCode::not_found, "no data set '", options.name, "', known are ", known);
}

namespace {

void read_into(const Dataset& data, std::span<const int64_t> indices, const Draw* draw, float* inputs,
               int64_t* labels) {
  if (draw != nullptr)
    data.read_augmented(*draw, indices, inputs, labels);
  else
    data.read(indices, inputs, labels);
}

}  // namespace

Batch read_batch(const Dataset& data, std::span<const int64_t> indices, Device device, const Draw* draw) {
  const auto n = static_cast<int64_t>(indices.size());
  const Shape sample = data.sample_shape();
  Shape shape{n};
  for (int64_t extent : sample.dims()) shape.push_back(extent);
  const bool numbers = data.has_number_targets();
  const Shape target_shape = numbers ? Shape{n, data.classes()} : Shape{n};
  if (device == Device::cpu) {
    Batch batch{Tensor::empty(shape, DType::f32), Tensor::empty(target_shape, numbers ? DType::f32 : DType::i64)};
    read_into(data, indices, draw, batch.inputs.data_as<float>(), numbers ? nullptr : batch.labels.data_as<int64_t>());
    if (numbers) data.read_targets(indices, batch.labels.data_as<float>());
    return batch;
  }
  std::vector<float> inputs(static_cast<size_t>(shape.numel()));
  std::vector<int64_t> labels(numbers ? 0 : indices.size());
  read_into(data, indices, draw, inputs.data(), labels.data());
  const Tensor on_device = Tensor::from_vector(inputs, shape, device);
  if (!numbers) return {on_device, Tensor::from_vector(labels, target_shape, device)};
  std::vector<float> targets(static_cast<size_t>(target_shape.numel()));
  data.read_targets(indices, targets.data());
  return {on_device, Tensor::from_vector(targets, target_shape, device)};
}

}  // namespace sinew::nn
