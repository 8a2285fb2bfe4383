// Hutchinson's estimate of the Hessian's diagonal: D = z (.) Hz with z of independent +1 and -1, so that
// E[D_i] = H_ii and Var(D_i) = sum_{j != i} H_ij^2. Hutchinson 1990; Bekas, Kokiopoulou and Saad 2007; as AdaHessian
// uses it: arXiv:2006.00719v2, eq. 8 and 9. D is signed: whoever averages over workers does it before abs and square.
//
// Hz is the derivative of <gradient, z>: the gradient must have been taken with create_graph. Each rank, step and
// sample has a z of its own, from Philox; that draws of different ranks are independent is what makes the variance of a
// mean over W ranks fall as 1 / W.
//
// Thread safety: pure functions.
//
// Example (models/curvature.cpp):
//   std::vector<Tensor> g = grad({loss}, parameters, {}, {.create_graph = true});
//   Vec d = hutchinson_diagonal(layout, std::move(g), parameters, {.seed = 1, .rank = 0, .step = 17});
#pragma once

#include <span>
#include <vector>

#include "core/param_layout.h"
#include "core/philox.h"
#include "core/tensor.h"
#include "core/vec.h"

namespace sinew::optim {

struct ProbeKey {
  uint64_t seed = 0;
  uint32_t rank = 0;
  uint64_t step = 0;    // below 2^48
  uint64_t sample = 0;  // below 2^16
};

// z: every element +1 or -1, each with probability 1/2. The padding is drawn too: nobody reads it.
void draw_probe(const ProbeKey& key, VecView z);

// product = H z. gradients: one per parameter and with their graph, which is freed unless keep_graph; entries that do
// not depend on the parameters count as constant. z, product: layout.size() elements of one type; product's padding
// stays.
void hessian_product(const ParamLayout& layout, std::span<const Tensor> gradients, std::span<const Tensor> parameters,
                     const Vec& z, const Vec& product, bool keep_graph = false);

// The mean of z (.) Hz over `samples` draws, zero on the padding. Takes the gradients over to free their graph in the
// last product, where memory is short.
Vec hutchinson_diagonal(const ParamLayout& layout, std::vector<Tensor> gradients, std::span<const Tensor> parameters,
                        ProbeKey key, int samples = 1);

}  // namespace sinew::optim
