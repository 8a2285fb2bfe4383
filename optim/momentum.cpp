#include "optim/transforms.h"
#include "optim/velocity.h"

namespace sinew::optim {
namespace {

// Heavy ball and PyTorch's Nesterov: they differ in what they hand on.
class Momentum : public VelocityTransform {
 public:
  Momentum(std::string name, double momentum, bool nesterov)
      : VelocityTransform(std::move(name), momentum), nesterov_(nesterov) {}

  void apply(VecView u, VecView, const StepInfo&) override {
    VecView v = velocity();
    axpby(momentum(), v, 1, u, v);
    if (nesterov_)
      axpby(momentum(), v, 1, u, u);
    else
      copy(v, u);
  }
  SgdStage sgd_stage() const override { return SgdStage::momentum; }
  void set_sgd_args(kernel::SgdArgs& args, ConstVecView, const StepInfo&) override {
    args.v = velocity().data;
    args.momentum = momentum();
    args.nesterov = nesterov_;
  }

 private:
  bool nesterov_;
};

}  // namespace

TransformPtr heavy_ball(double momentum) { return std::make_unique<Momentum>("heavy_ball", momentum, false); }
TransformPtr pytorch_nesterov(double momentum) {
  return std::make_unique<Momentum>("pytorch_nesterov", momentum, true);
}

}  // namespace sinew::optim
