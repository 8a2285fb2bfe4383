// Some samples of a data set as a data set: the test part of a set that comes without one.
//
// Thread safety: immutable.
#pragma once

#include "nn/data/dataset.h"

namespace sinew::nn {

class Subset final : public Dataset {
 public:
  // Sample i is data's sample indices[i]; augmentation is drawn for that number.
  Subset(DatasetPtr data, std::vector<int64_t> indices) : data_(std::move(data)), indices_(std::move(indices)) {}
  std::string name() const override { return data_->name(); }
  int64_t size() const override { return static_cast<int64_t>(indices_.size()); }
  Shape sample_shape() const override { return data_->sample_shape(); }
  int64_t classes() const override { return data_->classes(); }
  std::vector<std::string> class_names() const override { return data_->class_names(); }
  bool has_number_targets() const override { return data_->has_number_targets(); }
  int64_t label(int64_t index) const override { return data_->label(at(index)); }
  void read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const override;
  void read_augmented(const Draw& draw, std::span<const int64_t> indices, float* inputs,
                      int64_t* labels) const override;
  void read_targets(std::span<const int64_t> indices, float* targets) const override;

 private:
  int64_t at(int64_t index) const;
  std::vector<int64_t> mapped(std::span<const int64_t> indices) const;

  DatasetPtr data_;
  std::vector<int64_t> indices_;
};

// Which of `size` samples are the test part of a set without one: sorted, round(share * size) but at least 1, a fixed
// choice that does not depend on any seed; and the others. invalid_argument when one of them would be empty.
struct TestSplit {
  std::vector<int64_t> train, test;
};
Result<TestSplit> split_off_test(int64_t size, double share);

}  // namespace sinew::nn
