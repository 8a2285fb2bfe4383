#include "nn/layers/sequential.h"

namespace sinew::nn {

Sequential& Sequential::add(ModulePtr module, std::string name) {
  SINEW_CHECK(module != nullptr, "sequential", "child ", children_.size(), " is null");
  if (name.empty()) name = std::to_string(children_.size());
  for (const auto& [taken, child] : children_)
    SINEW_CHECK(taken != name, "sequential", "two children are called '", name, "'");
  children_.emplace_back(std::move(name), std::move(module));
  return *this;
}

void Sequential::declare(Declarations& declarations) {
  for (auto& entry : children_) declarations.scope(entry.first, [&] { entry.second->declare(declarations); });
}

Tensor Sequential::forward(const Tensor& x, const Pass& pass) const {
  Tensor y = x;
  for (const auto& [name, child] : children_) y = child->forward(y, pass);
  return y;
}

}  // namespace sinew::nn
