#include "nn/data/u8_dataset.h"

#include <algorithm>

namespace sinew::nn {

U8Dataset::U8Dataset(U8Samples samples) : samples_(std::move(samples)) {
  const size_t per_sample = static_cast<size_t>(samples_.sample_shape.numel());
  SINEW_CHECK(samples_.values.size() == samples_.labels.size() * per_sample, "u8_dataset", samples_.values.size(),
              " values for ", samples_.labels.size(), " samples of shape ", samples_.sample_shape);
  SINEW_CHECK(static_cast<int64_t>(samples_.class_names.size()) == samples_.classes, "u8_dataset",
              samples_.class_names.size(), " class names for ", samples_.classes, " classes");
  for (uint8_t label : samples_.labels)
    SINEW_CHECK(label < samples_.classes, "u8_dataset", "label ", int{label}, " of ", samples_.classes, " classes");
  for (size_t v = 0; v < table_.size(); ++v)
    table_[v] = static_cast<float>((static_cast<double>(v) / 255 - samples_.mean) / samples_.std);
}

void U8Dataset::read(std::span<const int64_t> indices, float* inputs, int64_t* labels) const {
  const auto per_sample = samples_.sample_shape.numel();
  for (int64_t index : indices) {
    SINEW_CHECK(index >= 0 && index < size(), "read", "sample ", index, " of ", size());
    const uint8_t* values = samples_.values.data() + index * per_sample;
    inputs = std::transform(values, values + per_sample, inputs, [this](uint8_t v) { return table_[v]; });
    *labels++ = samples_.labels[static_cast<size_t>(index)];
  }
}

}  // namespace sinew::nn
