// Testing a parameter vector on a data set.
//
// Thread safety: free functions on const inputs.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "nn/data/dataset.h"
#include "nn/module.h"

namespace sinew::train {

struct Evaluation {
  double loss = 0;      // mean cross entropy; where targets are numbers, mean squared error
  double accuracy = 0;  // 0 to 1; NaN where targets are numbers
  int64_t samples = 0;
  std::vector<int64_t> class_samples, class_correct;
};
// In batches, without recording. The result does not depend on the batch size beyond rounding of the loss.
Evaluation evaluate(const nn::Model& model, const Vec& theta, const nn::Dataset& data);
// On these samples only.
Evaluation evaluate(const nn::Model& model, const Vec& theta, const nn::Dataset& data,
                    std::span<const int64_t> samples);

}  // namespace sinew::train
