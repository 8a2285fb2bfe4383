// A data set of samples with labels or targets that can be read in any order from several threads at once.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/shape.h"
#include "core/status.h"
#include "core/tensor.h"
#include "nn/data/augment.h"

namespace sinew::nn {

// Thrown where a sample turns out to be unreadable only when it is read (an image that does not decode). The message is
// the Status's one line.
class DataError : public std::runtime_error {
 public:
  explicit DataError(Status status) : std::runtime_error(status.message()), status_(std::move(status)) {}
  const Status& status() const { return status_; }

 private:
  Status status_;
};

class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::string name() const = 0;
  virtual int64_t size() const = 0;
  virtual Shape sample_shape() const = 0;  // row-major; images are (H, W, C)
  // Of labels; where targets are numbers, how many numbers a target has. The outputs of a network for this set.
  virtual int64_t classes() const = 0;
  virtual std::vector<std::string> class_names() const { return {}; }

  // Writes indices.size() samples as f32, normalised by the set's own rule, as for a test: without chance.
  // labels: likewise; may be nullptr where targets are numbers. Throws DataError.
  virtual void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const = 0;
  // The same with the set's augmentation, which is a function of (draw, index).
  virtual void read_augmented(const Draw& draw, std::span<const int64_t> indices, float* inputs,
                              int64_t* labels) const {
    static_cast<void>(draw);
    read(indices, inputs, labels);
  }
  // The label of one sample. This one reads the sample; sets override it.
  virtual int64_t label(int64_t index) const;

  // true: targets are classes() numbers each, read with read_targets, and there are no labels (regression).
  virtual bool has_number_targets() const { return false; }
  virtual void read_targets(std::span<const int64_t> indices, float* targets) const;
};
using DatasetPtr = std::shared_ptr<const Dataset>;

struct DataSplit {
  DatasetPtr train, test;
};

struct DataOptions {
  std::string name = "synthetic";
  std::string dir;         // folder of the set's files
  uint64_t seed = 1;       // synthetic: of the generator
  int64_t train_size = 0;  // synthetic: 0 for the default
  ImageOptions image;
  std::string file, test_file;  // tensors, csv
  double test_share = 0.2;      // tensors, csv, images: of data that come without a test part
  bool channels_first = false;  // tensors: x is (N, C, H, W)
  std::string label;            // csv: name or number of the label's column; "": the last
};
// Errors: invalid_argument, not_found, data_error; one line that names the file and what to type next.
Result<DataSplit> open_data(const DataOptions& options);
std::vector<std::string> dataset_names();

struct Batch {
  Tensor inputs;  // (n, sample shape) f32
  Tensor labels;  // (n) i64; or number targets (n, classes) f32
  int64_t size() const { return labels.defined() ? labels.dim(0) : 0; }
};
// Reads a batch to the given device; with a draw, as for training.
Batch read_batch(const Dataset& data, std::span<const int64_t> indices, Device device = Device::cpu,
                 const Draw* draw = nullptr);

}  // namespace sinew::nn
