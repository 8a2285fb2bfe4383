// The derivative of a fused op by its composite of public ops.
#include "core/ops/common.h"

namespace sinew::ops {

void derivative_by_composite(const VjpContext& ctx, std::span<Tensor> out, const Composite& composite) {
  const bool create_graph = GradMode::enabled();
  std::vector<Tensor> inputs(ctx.inputs.begin(), ctx.inputs.end()), wanted, results, cotangents;
  std::vector<size_t> positions;
  GradMode record_the_composite(true);
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!inputs[i].defined()) continue;
    if (!ctx.needs(i)) {
      if (!create_graph) inputs[i] = inputs[i].detach();
      continue;
    }
    // A node of its own: one input may be computed from another, and only its direct use counts here.
    inputs[i] = create_graph ? reshape(inputs[i], inputs[i].shape()) : inputs[i].detach().set_requires_grad();
    wanted.push_back(inputs[i]);
    positions.push_back(i);
  }
  const std::vector<Tensor> all = composite(inputs);
  const bool several = !ctx.cotangents.empty();
  for (size_t k = 0; k < all.size(); ++k) {
    const Tensor& c = several ? ctx.cotangents[k] : ctx.cotangent;
    if (!c.defined() || !all[k].requires_grad()) continue;
    results.push_back(all[k]);
    cotangents.push_back(c);
  }
  if (results.empty() || wanted.empty()) return;
  const std::vector<Tensor> g = grad(results, wanted, cotangents, {.create_graph = create_graph});
  for (size_t k = 0; k < positions.size(); ++k) out[positions[k]] = g[k];
}

}  // namespace sinew::ops
