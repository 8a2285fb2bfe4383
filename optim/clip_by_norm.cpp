#include "optim/transforms.h"

namespace sinew::optim {
namespace {

class ClipByNorm : public Transform {
 public:
  explicit ClipByNorm(double max_norm) : max_norm_(max_norm) {
    SINEW_CHECK(max_norm > 0, "clip_by_norm", "a norm of at most ", max_norm, "; it must be positive");
  }
  std::string name() const override { return "clip_by_norm"; }

  void apply(VecView u, VecView, const StepInfo&) override {
    if (double s = scale(u); s != 1) axpby(s, u, 0, u, u);
  }
  Stage stage() const override { return Stage::clip; }
  void set_frame(kernel::UpdateFrame& frame, ConstVecView gradient, const StepInfo&) override {
    frame.grad_scale = scale(gradient);
  }

 private:
  // A norm that is not a number leaves the gradient as it is: the trainer's check of the loss speaks, not this.
  double scale(ConstVecView g) const {
    double length = norm(g);
    return length > max_norm_ ? max_norm_ / length : 1;
  }
  double max_norm_;
};

}  // namespace

TransformPtr clip_by_norm(double max_norm) { return std::make_unique<ClipByNorm>(max_norm); }

}  // namespace sinew::optim
