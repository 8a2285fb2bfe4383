#include "optim/transforms.h"

namespace sinew::optim {
namespace {

class WeightDecay : public Transform {
 public:
  explicit WeightDecay(double decay) : decay_(decay) {}
  std::string name() const override { return "weight_decay"; }

  void apply(VecView u, VecView theta, const StepInfo&) override { axpby(decay_, theta, 1, u, u); }
  SgdStage sgd_stage() const override { return SgdStage::coupled_decay; }
  void set_sgd_args(kernel::SgdArgs& args, ConstVecView, const StepInfo&) override { args.weight_decay = decay_; }

 private:
  double decay_;
};

}  // namespace

TransformPtr weight_decay(double decay) { return std::make_unique<WeightDecay>(decay); }

}  // namespace sinew::optim
