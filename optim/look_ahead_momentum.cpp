#include "optim/transforms.h"
#include "optim/velocity.h"

namespace sinew::optim {
namespace {

class LookAheadMomentum : public VelocityTransform {
 public:
  explicit LookAheadMomentum(double momentum) : VelocityTransform("look_ahead_momentum", momentum) {}

  void before_gradient(VecView theta, const StepInfo&) override {
    SINEW_CHECK(!ahead_, "look_ahead_momentum", "before_gradient() twice without step() or skip()");
    axpby(momentum(), velocity(), 1, theta, theta);
    ahead_ = true;
  }
  // Leaves u alone: see transforms.h for why theta -= lr * u is then all that remains.
  void apply(VecView u, VecView, const StepInfo& info) override {
    SINEW_CHECK(ahead_, "look_ahead_momentum", "step() without before_gradient()");
    axpby(momentum(), velocity(), -info.lr, u, velocity());
    ahead_ = false;
  }
  void skip(VecView theta) override {
    if (ahead_) axpby(-momentum(), velocity(), 1, theta, theta);
    ahead_ = false;
  }

 private:
  bool ahead_ = false;  // theta stands at the look-ahead point
};

}  // namespace

TransformPtr look_ahead_momentum(double momentum) { return std::make_unique<LookAheadMomentum>(momentum); }

}  // namespace sinew::optim
