// Running statistics measured anew for a given parameter vector: an average of parameters (a center, a mean of workers)
// has other activations than any worker, so the workers' statistics do not fit it (Izmailov et al. 2018,
// arXiv:1803.05407, section 3.2, do this for weight averaging).
//
// Thread safety: a free function on its arguments.
#pragma once

#include "nn/data/dataset.h"
#include "nn/module.h"

namespace sinew::train {

// Overwrites theta's buffers with their mean over training passes of up to `batches` batches, taken at equal distances
// from `data` without augmentation. A model without buffers is left alone. Throws Error unless batch >= 1 and
// batches >= 1.
void recalibrate(const nn::Model& model, Vec& theta, const nn::Dataset& data, int64_t batch, int64_t batches);

}  // namespace sinew::train
