#include "models/curvature.h"

#include <utility>

#include "core/autograd.h"
#include "core/ops.h"
#include "nn/loss.h"

namespace sinew::train {
namespace {

Vec hutchinson(const ParamLayout& layout, ForwardPass pass, std::span<const Tensor> parameters,
               std::span<const Tensor> gradient, int samples, const optim::ProbeKey& key) {
  // One product makes what is postponed; each of several would make it again.
  const std::vector<Tensor> g = grad({pass.loss}, parameters, {}, {.create_graph = true, .postpone = samples == 1});
  pass = {};
  Vec diagonal = optim::hutchinson_diagonal(layout, g, parameters, key, samples);
  for (size_t i = 0; i < g.size(); ++i) copy(g[i].view(), gradient[i].output_view());
  return diagonal;
}

Vec gauss_newton(const ParamLayout& layout, ForwardPass pass, std::span<const Tensor> parameters,
                 std::span<const Tensor> gradient, const optim::ProbeKey& key) {
  grad({pass.loss}, parameters, {}, {.retain_graph = true, .into = gradient});
  const int64_t samples = pass.logits.dim(0);
  const Tensor labels =
      sample_labels(pass.logits, {key.seed, static_cast<uint32_t>(RngPurpose::sampled_labels), key.rank, key.step});
  const Tensor loss = nn::cross_entropy(std::exchange(pass.logits, {}), labels);
  pass = {};
  Vec d = Vec::zeros(layout.size(), parameters[0].dtype(), parameters[0].device());
  std::vector<Tensor> into;
  for (const Segment& s : layout.segments()) into.push_back(Tensor::view_of(d, s.offset, s.shape));
  grad({loss}, parameters, {}, {.into = into});
  const VecView v = d.mutable_view();
  kernels(v.device).unary({UnaryOp::square, v.dtype, v.size, v.data, v.data, 0, 0});
  axpby(static_cast<double>(samples), v, 0, v, v);
  return d;
}

}  // namespace

Vec gradient_and_diagonal(const ParamLayout& layout, ForwardPass pass, std::span<const Tensor> parameters,
                          std::span<const Tensor> gradient, const optim::Needs& needs, const optim::ProbeKey& key) {
  SINEW_CHECK(needs.curvature != optim::Curvature::none, "curvature", "nothing is asked for");
  if (needs.curvature == optim::Curvature::hutchinson)
    return hutchinson(layout, std::move(pass), parameters, gradient, needs.samples, key);
  return gauss_newton(layout, std::move(pass), parameters, gradient, key);
}

Tensor sample_labels(const Tensor& logits, const RngKey& key) {
  SINEW_CHECK(logits.ndim() == 2, "sample_labels", "logits ", logits.shape(), "; they must be (n, classes)");
  const std::vector<double> p = to_doubles(softmax(logits.detach()).view());
  const size_t rows = static_cast<size_t>(logits.dim(0)), classes = static_cast<size_t>(logits.dim(1));
  std::vector<int64_t> labels(rows);
  for (size_t i = 0; i < rows; ++i) {
    // Where the sum falls short of 1 by rounding, the last class takes the rest.
    double left = uniform01(philox_u64(key, i));
    size_t c = 0;
    while (c + 1 < classes && left >= p[i * classes + c]) left -= p[i * classes + c++];
    labels[i] = static_cast<int64_t>(c);
  }
  return Tensor::from_vector(labels, {logits.dim(0)}, logits.device());
}

}  // namespace sinew::train
