#include "models/evaluate.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/autograd.h"
#include "core/ops.h"
#include "nn/loss.h"

namespace sinew::train {

Evaluation evaluate(const nn::Model& model, const Vec& theta, const nn::Dataset& data) {
  std::vector<int64_t> all(static_cast<size_t>(data.size()));
  std::iota(all.begin(), all.end(), 0);
  return evaluate(model, theta, data, all);
}

Evaluation evaluate(const nn::Model& model, const Vec& theta, const nn::Dataset& data,
                    std::span<const int64_t> samples) {
  constexpr size_t kBatch = 500;
  GradMode off(false);
  const nn::Parameters parameters = model.parameters(theta, false);
  const nn::Buffers buffers = model.buffers(theta);
  Evaluation result;
  result.samples = static_cast<int64_t>(samples.size());
  const bool numbers = data.has_number_targets();
  const size_t classes = numbers ? 0 : static_cast<size_t>(std::max(data.classes(), model.outputs()));
  result.class_samples.assign(classes, 0);
  result.class_correct.assign(classes, 0);
  int64_t correct = 0;
  for (size_t begin = 0; begin < samples.size(); begin += kBatch) {
    const nn::Batch batch =
        nn::read_batch(data, samples.subspan(begin, std::min(kBatch, samples.size() - begin)), theta.device());
    const Tensor logits = model.forward(batch.inputs, nn::Pass{.parameters = parameters, .buffers = &buffers});
    const Tensor loss = (numbers ? nn::mean_squared_error : nn::cross_entropy)(logits, batch.labels);
    result.loss += to_doubles(loss.view())[0] * static_cast<double>(batch.size());
    if (numbers) continue;
    const std::vector<int64_t> guess = argmax(logits, 1).to_vector<int64_t>(),
                               truth = batch.labels.to_vector<int64_t>();
    for (size_t i = 0; i < truth.size(); ++i) {
      const bool hit = guess[i] == truth[i];
      ++result.class_samples[static_cast<size_t>(truth[i])];
      result.class_correct[static_cast<size_t>(truth[i])] += hit;
      correct += hit;
    }
  }
  if (result.samples > 0) {
    result.loss /= static_cast<double>(result.samples);
    result.accuracy = numbers ? std::nan("") : static_cast<double>(correct) / static_cast<double>(result.samples);
  }
  return result;
}

}  // namespace sinew::train
