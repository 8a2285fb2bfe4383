// A single module with its parameters, for tests.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "nn/module.h"

namespace sinew::nn {

// Declares a module, initialises its parameters (f64 unless told otherwise) and runs it.
class ModuleFixture {
 public:
  explicit ModuleFixture(ModulePtr module, DType dtype = DType::f64, Device device = Device::cpu, uint64_t seed = 1)
      : module_(std::move(module)) {
    module_->declare(declarations_);
    theta_ = Vec::zeros(layout().size(), dtype, device);
    VecView all = theta_.mutable_view();
    for (size_t i = 0; i < layout().segments().size(); ++i) {
      const Segment& s = layout().segments()[i];
      initialize(declarations_.initializers()[i], s.shape,
                 RngKey{seed, static_cast<uint32_t>(RngPurpose::test), static_cast<uint32_t>(i), 0},
                 all.slice(s.offset, s.numel));
    }
  }
  const ParamLayout& layout() const { return declarations_.layout(); }
  const ParamLayout& buffer_layout() const { return declarations_.buffer_layout(); }
  Vec& theta() { return theta_; }
  Parameters parameters() const { return Parameters(layout(), theta_); }
  void set(const std::string& name, const std::vector<double>& values) {
    const Segment& s = layout().segments().at(static_cast<size_t>(layout().find(name)));
    SINEW_CHECK(static_cast<int64_t>(values.size()) == s.numel, "fixture", values.size(), " values for ", name);
    upload(values.data(), theta_.mutable_view().slice(s.offset, s.numel));
  }
  Tensor forward(const Tensor& x, bool training = false, uint64_t seed = 1, uint32_t rank = 0,
                 uint64_t step = 0) const {
    Parameters p = parameters();
    return module_->forward(x, Pass{p, training, seed, rank, step});
  }
  const Module& module() const { return *module_; }

 private:
  ModulePtr module_;
  Declarations declarations_;
  Vec theta_;
};

}  // namespace sinew::nn
