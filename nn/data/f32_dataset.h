// Samples of floats held in memory: safetensors and CSV files.
//
// Thread safety: immutable after construction.
#pragma once

#include "nn/data/dataset.h"

namespace sinew::nn {

struct F32Samples {
  std::string name;
  Shape sample_shape;
  int64_t classes = 0;  // of labels, or numbers of a target
  std::vector<std::string> class_names;
  std::vector<float> values;    // sample after sample, row-major
  std::vector<int32_t> labels;  // each below classes; empty where there are targets
  std::vector<float> targets;   // classes numbers each
  int64_t size() const;
};

// Of each column (the last axis) over these samples, in double; a column of equal values has deviation 1.
struct ColumnMoments {
  std::vector<double> mean, std;
};
ColumnMoments column_moments(const F32Samples& samples);
// values = (values - mean) / std; mean and std: one for all columns or one for each.
void normalise(F32Samples& samples, const std::vector<double>& mean, const std::vector<double>& std);

class F32Dataset final : public Dataset {
 public:
  // Throws Error when the parts do not fit each other.
  explicit F32Dataset(F32Samples samples);
  std::string name() const override { return samples_.name; }
  int64_t size() const override { return samples_.size(); }
  Shape sample_shape() const override { return samples_.sample_shape; }
  int64_t classes() const override { return samples_.classes; }
  std::vector<std::string> class_names() const override { return samples_.class_names; }
  bool has_number_targets() const override { return !samples_.targets.empty(); }
  int64_t label(int64_t index) const override;
  void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const override;
  void read_targets(std::span<const int64_t> indices, float* targets) const override;

 private:
  void check_index(int64_t index) const;
  const F32Samples samples_;
};

}  // namespace sinew::nn
