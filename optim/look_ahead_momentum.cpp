#include "optim/state.h"
#include "optim/transforms.h"

namespace sinew::optim {
namespace {

class LookAheadMomentum : public StatefulTransform {
 public:
  explicit LookAheadMomentum(double momentum)
      : StatefulTransform("look_ahead_momentum", {"velocity"}), momentum_(momentum) {
    check_momentum("look_ahead_momentum", momentum);
  }

  void before_gradient(VecView theta, const StepInfo&) override {
    SINEW_CHECK(!ahead_, "look_ahead_momentum", "before_gradient() twice without step() or skip()");
    axpby(momentum_, vector(0), 1, theta, theta);
    ahead_ = true;
  }
  // Leaves u alone: see transforms.h for why theta -= lr * u is then all that remains.
  void apply(VecView u, VecView, const StepInfo& info) override {
    SINEW_CHECK(ahead_, "look_ahead_momentum", "step() without before_gradient()");
    axpby(momentum_, vector(0), -info.lr, u, vector(0));
    ahead_ = false;
  }
  bool recordable() const override { return true; }
  void skip(VecView theta) override {
    if (ahead_) axpby(-momentum_, vector(0), 1, theta, theta);
    ahead_ = false;
  }

 private:
  const double momentum_;
  bool ahead_ = false;  // theta stands at the look-ahead point
};

}  // namespace

TransformPtr look_ahead_momentum(double momentum) { return std::make_unique<LookAheadMomentum>(momentum); }

}  // namespace sinew::optim
