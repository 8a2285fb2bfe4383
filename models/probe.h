// `sinew probe`: one batch through a network, with everything that came of it in a file, to compare with another
// framework number by number. Names and layouts are PyTorch's (models/weights_file.h), images N,C,H,W.
//
// The batch file holds `inputs` f32 (N, C, H, W) or (N, features), `labels` i64 (N) and optionally `z.NAME` per
// parameter. The result holds `loss` (mean cross entropy, one element), `logits` (N, classes), `grad.NAME` for every
// parameter, `buffer.NAME` for every buffer as the pass left it (mode train) and, where z.NAME was given, `hv.NAME`:
// that part of the product of the loss's Hessian with z (a parameter without z counts as zeros there). All in f32.
//
// Thread safety: a free function on its arguments.
#pragma once

#include <string>

#include "core/status.h"
#include "models/options.h"

namespace sinew::train {

struct ProbeFiles {
  std::string weights, batch, out;
};

// training: batch statistics and dropout (masks of train.seed), else evaluation. data_error names the file and the
// tensor that is missing or does not fit.
Status probe(const Options& options, const ProbeFiles& files, bool training);

}  // namespace sinew::train
