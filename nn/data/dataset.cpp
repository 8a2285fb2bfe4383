#include "nn/data/dataset.h"

#include "nn/data/idx.h"
#include "nn/data/synthetic.h"

namespace sinew::nn {

std::vector<std::string> dataset_names() { return {"synthetic", "mnist"}; }

Result<DataSplit> open_data(const DataOptions& options) {
  if (options.name == "synthetic") {
    if (options.train_size < 0 || options.train_size > kSyntheticMaxSize)
      return make_status(StatusCode::invalid_argument, "data.train_size ", options.train_size, " is not in 0 to ",
                         kSyntheticMaxSize, " (0: ", kSyntheticTrainSize, ")");
    return open_synthetic(options.seed, options.train_size == 0 ? kSyntheticTrainSize : options.train_size);
  }
  if (options.name == "mnist") {
    if (options.train_size != 0)
      return make_status(StatusCode::invalid_argument, "data.train_size ", options.train_size,
                         " is for synthetic data; the files decide the size of mnist");
    return open_idx(options.name, options.dir);
  }
  std::string known;
  for (const std::string& name : dataset_names()) known += (known.empty() ? "" : ", ") + name;
  return make_status(StatusCode::not_found, "no data set '", options.name, "', known are ", known);
}

Batch read_batch(const Dataset& data, std::span<const int64_t> indices, Device device) {
  const auto n = static_cast<int64_t>(indices.size());
  const Shape sample = data.sample_shape();
  Shape shape{n};
  for (int64_t extent : sample.dims()) shape.push_back(extent);
  if (device == Device::cpu) {
    Batch batch{Tensor::empty(shape, DType::f32), Tensor::empty({n}, DType::i64)};
    data.read(indices, batch.inputs.data_as<float>(), batch.labels.data_as<int64_t>());
    return batch;
  }
  std::vector<float> inputs(static_cast<size_t>(shape.numel()));
  std::vector<int64_t> labels(indices.size());
  data.read(indices, inputs.data(), labels.data());
  return {Tensor::from_vector(inputs, shape, device), Tensor::from_vector(labels, {n}, device)};
}

}  // namespace sinew::nn
