// Samples of unsigned bytes held in memory: MNIST, CIFAR, the synthetic digits, bytes from a safetensors file.
//
// A value v of channel c is read as (v / 255 - mean[c]) / std[c] in f32, through a table of 256 floats computed once in
// double, so every machine reads the same bits. Images (H, W, C) are cropped and augmented as ImageOptions say.
//
// Thread safety: immutable after construction.
#pragma once

#include <string>
#include <vector>

#include "nn/data/dataset.h"

namespace sinew::nn {

struct U8Samples {
  std::string name;
  Shape sample_shape;
  int64_t classes = 0;
  std::vector<std::string> class_names;       // one per class
  std::vector<double> mean = {0}, std = {1};  // of v / 255: one for all channels (the last axis) or one for each
  std::vector<uint8_t> values;                // sample after sample, row-major
  std::vector<int32_t> labels;                // each below classes; empty where there are targets
  std::vector<float> targets;                 // classes numbers each
  int64_t size() const;
};

// What cannot be done with images of this size: invalid_argument with the option's name.
Status check_image_options(const ImageOptions& options, const Shape& sample);

class U8Dataset final : public Dataset {
 public:
  // options.mean and std, where given, replace those of the samples. Throws Error when the parts do not fit each other
  // or the options do not fit the samples (check_image_options).
  explicit U8Dataset(U8Samples samples, const ImageOptions& options = {});

  std::string name() const override { return samples_.name; }
  int64_t size() const override { return samples_.size(); }
  Shape sample_shape() const override { return shape_; }
  int64_t classes() const override { return samples_.classes; }
  std::vector<std::string> class_names() const override { return samples_.class_names; }
  bool has_number_targets() const override { return !samples_.targets.empty(); }
  int64_t label(int64_t index) const override;
  void read_targets(std::span<const int64_t> indices, float* targets) const override;
  // Throw Error on an index out of range.
  void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const override;
  void read_augmented(const Draw& draw, std::span<const int64_t> indices, float* inputs,
                      int64_t* labels) const override;

  const U8Samples& samples() const { return samples_; }

 private:
  void read(const Draw* draw, std::span<const int64_t> indices, float* inputs, int64_t* labels) const;

  const U8Samples samples_;
  const ImageOptions options_;
  int64_t height_ = 1, width_ = 1;  // of an image; other samples are one row
  Shape shape_;                     // after the crop
  Normalisation normalisation_;
};

// The training part as the options say, the test part without chance. Status for options that do not fit.
Result<DataSplit> make_u8_split(U8Samples train, U8Samples test, const ImageOptions& options);

}  // namespace sinew::nn
