// Samples of unsigned bytes held in memory: what the IDX reader and the synthetic generator produce.
//
// A value v is read as (v / 255 - mean) / std in f32, through a table of 256 floats computed once in double, so
// every machine reads the same bits.
//
// Thread safety: immutable after construction.
#pragma once

#include <array>
#include <string>
#include <vector>

#include "nn/data/dataset.h"

namespace sinew::nn {

struct U8Samples {
  std::string name;
  Shape sample_shape;
  int64_t classes = 0;
  std::vector<std::string> class_names;  // one per class
  double mean = 0, std = 1;              // of v / 255
  std::vector<uint8_t> values;           // sample after sample, row-major
  std::vector<uint8_t> labels;           // each below classes
};

class U8Dataset final : public Dataset {
 public:
  // Throws Error when the parts do not fit each other.
  explicit U8Dataset(U8Samples samples);

  std::string name() const override { return samples_.name; }
  int64_t size() const override { return static_cast<int64_t>(samples_.labels.size()); }
  Shape sample_shape() const override { return samples_.sample_shape; }
  int64_t classes() const override { return samples_.classes; }
  std::vector<std::string> class_names() const override { return samples_.class_names; }
  // Throws Error on an index out of range.
  void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const override;

  const U8Samples& samples() const { return samples_; }

 private:
  const U8Samples samples_;
  std::array<float, 256> table_;
};

}  // namespace sinew::nn
