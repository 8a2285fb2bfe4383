// A data set of labelled samples that can be read in any order from several threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/shape.h"
#include "core/status.h"
#include "core/tensor.h"

namespace sinew::nn {

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::string name() const = 0;
  virtual int64_t size() const = 0;
  virtual Shape sample_shape() const = 0;  // row-major; images are (H, W, C)
  virtual int64_t classes() const = 0;
  virtual std::vector<std::string> class_names() const { return {}; }
  // Writes indices.size() samples as f32 (normalised by the set's own rule) and their labels.
  virtual void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const = 0;
};
using DatasetPtr = std::shared_ptr<const Dataset>;

struct DataSplit {
  DatasetPtr train, test;
};

struct DataOptions {
  std::string name = "synthetic";  // synthetic | mnist | fashion-like IDX directories
  std::string dir;
  uint64_t seed = 1;       // synthetic: of the generator
  int64_t train_size = 0;  // synthetic: 0 for the default
};
// Errors: not_found, data_error; one line that names the file and what to type next.
Result<DataSplit> open_data(const DataOptions& options);
std::vector<std::string> dataset_names();

struct Batch {
  Tensor inputs;  // (n, sample shape) f32
  Tensor labels;  // (n) i64
  int64_t size() const { return labels.defined() ? labels.numel() : 0; }
};
// Reads a batch to the given device.
Batch read_batch(const Dataset& data, std::span<const int64_t> indices, Device device = Device::cpu);

}  // namespace sinew::nn
