#include "nn/data/f32_dataset.h"

#include <algorithm>
#include <cmath>

namespace sinew::nn {

int64_t F32Samples::size() const {
  return targets.empty() ? static_cast<int64_t>(labels.size()) : static_cast<int64_t>(targets.size()) / classes;
}

ColumnMoments column_moments(const F32Samples& s) {
  const auto columns = static_cast<size_t>(s.sample_shape.dim(-1));
  ColumnMoments m{std::vector<double>(columns), std::vector<double>(columns)};
  const double rows = static_cast<double>(s.values.size() / columns);
  for (size_t i = 0; i < s.values.size(); ++i) m.mean[i % columns] += s.values[i];
  for (double& mean : m.mean) mean /= rows;
  for (size_t i = 0; i < s.values.size(); ++i) {
    const double d = s.values[i] - m.mean[i % columns];
    m.std[i % columns] += d * d;
  }
  for (double& std : m.std) std = std > 0 ? std::sqrt(std / rows) : 1;
  return m;
}

void normalise(F32Samples& s, const std::vector<double>& mean, const std::vector<double>& std) {
  const auto columns = static_cast<size_t>(s.sample_shape.dim(-1));
  SINEW_CHECK((mean.size() == 1 || mean.size() == columns) && (std.size() == 1 || std.size() == columns), "normalise",
              mean.size(), " means and ", std.size(), " deviations for ", columns, " columns");
  for (size_t i = 0; i < s.values.size(); ++i) {
    const double m = mean[mean.size() == 1 ? 0 : i % columns], d = std[std.size() == 1 ? 0 : i % columns];
    s.values[i] = static_cast<float>((s.values[i] - m) / d);
  }
}

F32Dataset::F32Dataset(F32Samples samples) : samples_(std::move(samples)) {
  const auto per_sample = static_cast<size_t>(samples_.sample_shape.numel());
  SINEW_CHECK(samples_.classes > 0 && samples_.targets.size() % static_cast<size_t>(samples_.classes) == 0 &&
                  samples_.values.size() == static_cast<size_t>(size()) * per_sample,
              "f32_dataset", samples_.values.size(), " values for ", size(), " samples of shape ",
              samples_.sample_shape);
  for (int32_t label : samples_.labels)
    SINEW_CHECK(label >= 0 && label < samples_.classes, "f32_dataset", "label ", label, " of ", samples_.classes,
                " classes");
}

void F32Dataset::check_index(int64_t index) const {
  SINEW_CHECK(index >= 0 && index < size(), "read", "sample ", index, " of ", size());
}

int64_t F32Dataset::label(int64_t index) const {
  check_index(index);
  SINEW_CHECK(!has_number_targets(), "label", "the targets of ", name(), " are numbers");
  return samples_.labels[static_cast<size_t>(index)];
}

void F32Dataset::read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const {
  const int64_t per_sample = samples_.sample_shape.numel();
  for (int64_t index : indices) {
    check_index(index);
    inputs = std::copy_n(samples_.values.data() + index * per_sample, per_sample, inputs);
    if (!has_number_targets()) *labels++ = samples_.labels[static_cast<size_t>(index)];
  }
}

void F32Dataset::read_targets(std::span<const int64_t> indices, float* targets) const {
  SINEW_CHECK(has_number_targets(), "read_targets", "the data set ", name(), " has labels");
  for (int64_t index : indices) {
    check_index(index);
    targets = std::copy_n(samples_.targets.data() + index * samples_.classes, samples_.classes, targets);
  }
}

}  // namespace sinew::nn
