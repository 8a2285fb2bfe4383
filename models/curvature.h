// What a second-order optimizer's step takes: the gradient and an estimate of the Hessian's diagonal, from one forward
// pass. Nobody else pays for it: the trainer comes here in steps in which Optimizer::needs() says so.
//
// hutchinson: the gradient is taken with its graph, and z (.) Hz by a second backward pass through both (double
// backward). Dropout keeps its masks and batch norm its statistics, because there is one forward pass.
// gauss_newton: labels drawn from the model's own softmax, the gradient g of their cross-entropy by a second backward
// pass through the same forward pass, and D = B g (.) g for B samples. Sophia-G (arXiv:2305.14342), Algorithm 2.
//
// The estimate is this worker's alone, and signed. A synchronous scheme averages it before the optimizer sees it; an
// elastic one does not (AdaHessian specification, section 2.6).
//
// Thread safety: pure functions.
#pragma once

#include <span>

#include "core/param_layout.h"
#include "core/philox.h"
#include "core/tensor.h"
#include "optim/hutchinson.h"
#include "optim/optimizer.h"

namespace sinew::train {

// One forward pass. Handed over, so that the graph can be freed while it is walked the last time.
struct ForwardPass {
  Tensor logits, loss;
};

// Leaves d loss / d parameters in `gradient` (views of a flat vector) and returns D: a flat vector of the layout, zero
// on the padding. needs.curvature: not none; gauss_newton takes logits (n, classes) and is made for the cross-entropy
// loss.
Vec gradient_and_diagonal(const ParamLayout& layout, ForwardPass pass, std::span<const Tensor> parameters,
                          std::span<const Tensor> gradient, const optim::Needs& needs, const optim::ProbeKey& key);

// One label per row of logits (n, classes), drawn from softmax(row); i64 (n) on the logits' device. The draws are the
// host's, in double: element i of the key's stream.
Tensor sample_labels(const Tensor& logits, const RngKey& key);

}  // namespace sinew::train
