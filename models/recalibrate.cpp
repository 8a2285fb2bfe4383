#include "models/recalibrate.h"

#include <algorithm>
#include <vector>

#include "core/autograd.h"

namespace sinew::train {

void recalibrate(const nn::Model& model, Vec& theta, const nn::Dataset& data, int64_t batch, int64_t batches) {
  SINEW_CHECK(batch >= 1 && batches >= 1, "recalibrate", batches, " batches of ", batch, " samples");
  if (model.buffer_layout().size() == 0 || data.size() == 0) return;
  GradMode off(false);
  const nn::Parameters parameters = model.parameters(theta, false);
  const nn::Buffers buffers = model.buffers(theta);
  batch = std::min(batch, data.size());
  batches = std::min(batches, data.size() / batch);
  const int64_t distance = data.size() / batches;
  std::vector<int64_t> samples(static_cast<size_t>(batch));
  for (int64_t b = 0; b < batches; ++b) {
    for (int64_t i = 0; i < batch; ++i) samples[static_cast<size_t>(i)] = b * distance + i;
    const nn::Batch read = nn::read_batch(data, samples, theta.device());
    // The weight 1 / (b + 1) makes the running statistics the mean over the batches so far.
    (void)model.forward(read.inputs, nn::Pass{.parameters = parameters,
                                              .training = true,
                                              .buffers = &buffers,
                                              .buffer_momentum = 1.0 / static_cast<double>(b + 1)});
  }
}

}  // namespace sinew::train
