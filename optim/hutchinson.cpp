#include "optim/hutchinson.h"

#include <utility>

#include "core/autograd.h"
#include "core/kernel_api.h"
#include "optim/vector_math.h"

namespace sinew::optim {
namespace {

std::vector<Tensor> views_of(const ParamLayout& layout, const Vec& vec) {
  std::vector<Tensor> views;
  views.reserve(layout.segments().size());
  for (const Segment& s : layout.segments()) views.push_back(Tensor::view_of(vec, s.offset, s.shape));
  return views;
}

}  // namespace

void draw_probe(const ProbeKey& key, VecView z) {
  SINEW_CHECK(key.step < uint64_t{1} << 48 && key.sample < uint64_t{1} << 16, "draw_probe", "step ", key.step,
              ", sample ", key.sample);
  const RngKey stream{key.seed, static_cast<uint32_t>(RngPurpose::hutchinson), key.rank, key.step | key.sample << 48};
  if (z.size) kernels(z.device).random({RandomDist::rademacher, z.dtype, z.size, stream, z.data, 0, 0});
}

void hessian_product(const ParamLayout& layout, std::span<const Tensor> gradients, std::span<const Tensor> parameters,
                     const Vec& z, const Vec& product, bool keep_graph) {
  SINEW_CHECK(gradients.size() == layout.segments().size() && parameters.size() == gradients.size(), "hessian_product",
              gradients.size(), " gradients and ", parameters.size(), " parameters for a layout of ",
              layout.segments().size());
  const std::vector<Tensor> probes = views_of(layout, z), into = views_of(layout, product);
  std::vector<Tensor> outputs, cotangents;
  outputs.reserve(gradients.size());
  cotangents.reserve(gradients.size());
  for (size_t i = 0; i < gradients.size(); ++i) {
    if (!gradients[i].requires_grad()) continue;
    outputs.push_back(gradients[i]);
    cotangents.push_back(probes[i]);
  }
  if (outputs.empty()) {
    for (const Tensor& t : into) fill(t.output_view(), 0);
    return;
  }
  grad(outputs, parameters, cotangents, {.retain_graph = keep_graph, .into = into});
}

Vec hutchinson_diagonal(const ParamLayout& layout, std::vector<Tensor> gradients, std::span<const Tensor> parameters,
                        ProbeKey key, int samples) {
  SINEW_CHECK(samples >= 1 && !parameters.empty(), "hutchinson_diagonal", samples, " samples, ", parameters.size(),
              " parameters");
  const DType dtype = parameters[0].dtype();
  const Device device = parameters[0].device();
  Vec z = Vec::empty(layout.size(), dtype, device), product = Vec::zeros(layout.size(), dtype, device), sum;
  for (int i = 0; i < samples; ++i) {
    key.sample = static_cast<uint64_t>(i);
    draw_probe(key, z.mutable_view());
    hessian_product(layout, gradients, parameters, z, product, i + 1 < samples);
    const VecView d = product.mutable_view();
    combine(BinaryOp::mul, z.view(), d, d);
    if (samples == 1) return product;
    if (i == 0)
      sum = product.clone();
    else
      axpby(1, d, 1, sum.view(), sum.mutable_view());
  }
  axpby(1.0 / samples, sum.view(), 0, sum.view(), sum.mutable_view());
  return sum;
}

}  // namespace sinew::optim
