#include "optim/state.h"
#include "optim/transforms.h"

namespace sinew::optim {
namespace {

// Heavy ball and PyTorch's Nesterov: they differ in what they hand on.
class Momentum : public StatefulTransform {
 public:
  Momentum(std::string name, double momentum, bool nesterov)
      : StatefulTransform(std::move(name), {"velocity"}), momentum_(momentum), nesterov_(nesterov) {
    check_momentum(this->name().c_str(), momentum);
  }
  void init(const ParamLayout& layout, DType dtype, Device device) override {
    StatefulTransform::init(layout, dtype, device);
    kernel_ = kernels(device).sgd;
  }

  void apply(VecView u, VecView, const StepInfo&) override {
    VecView v = vector(0);
    axpby(momentum_, v, 1, u, v);
    if (nesterov_)
      axpby(momentum_, v, 1, u, u);
    else
      copy(v, u);
  }

  bool recordable() const override { return true; }
  Stage stage() const override { return kernel_ ? Stage::rule : Stage::none; }
  void apply_fused(const kernel::UpdateFrame& frame, const StepInfo&) override {
    kernel::SgdArgs args{frame};
    args.v = vector(0).data;
    args.momentum = momentum_;
    args.nesterov = nesterov_;
    kernel_(args);
  }

 private:
  const double momentum_;
  const bool nesterov_;
  void (*kernel_)(const kernel::SgdArgs&) = nullptr;
};

}  // namespace

TransformPtr heavy_ball(double momentum) { return std::make_unique<Momentum>("heavy_ball", momentum, false); }
TransformPtr pytorch_nesterov(double momentum) {
  return std::make_unique<Momentum>("pytorch_nesterov", momentum, true);
}

}  // namespace sinew::optim
