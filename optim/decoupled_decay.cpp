#include "optim/transforms.h"

namespace sinew::optim {
namespace {

class DecoupledDecay : public Transform {
 public:
  explicit DecoupledDecay(double decay) : decay_(decay) {}
  std::string name() const override { return "decoupled_decay"; }

  void apply(VecView, VecView theta, const StepInfo& info) override {
    axpby(1 - info.lr * decay_, theta, 0, theta, theta);
  }
  bool recordable() const override { return true; }
  Stage stage() const override { return Stage::decoupled_decay; }
  void set_frame(kernel::UpdateFrame& frame, ConstVecView, const StepInfo& info) override {
    frame.decoupled = info.lr * decay_;
  }

 private:
  double decay_;
};

}  // namespace

TransformPtr decoupled_decay(double decay) { return std::make_unique<DecoupledDecay>(decay); }

}  // namespace sinew::optim
