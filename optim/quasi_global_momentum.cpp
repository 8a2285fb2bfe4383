#include "optim/state.h"
#include "optim/transforms.h"

namespace sinew::optim {
namespace {

class QuasiGlobalMomentum : public StatefulTransform {
 public:
  explicit QuasiGlobalMomentum(double momentum)
      : StatefulTransform("quasi_global_momentum", {"movement", "previous"}), momentum_(momentum) {
    check_momentum("quasi_global_momentum", momentum);
  }

  // theta stands where the last step, and the workers that it was mixed with, have brought it.
  void before_gradient(VecView theta, const StepInfo&) override {
    if (last_lr_ == 0) return;
    const double rate = (1 - momentum_) / last_lr_;
    axpby(rate, vector(1), momentum_, vector(0), vector(0));
    axpby(-rate, theta, 1, vector(0), vector(0));
    last_lr_ = 0;
  }
  void apply(VecView u, VecView theta, const StepInfo& info) override {
    copy(theta, vector(1));
    last_lr_ = info.lr;
    axpby(momentum_, vector(0), 1, u, u);
  }

  bool recordable() const override { return true; }
  // Parameters that were replaced are no movement, and what is not finite would stay in the average.
  void on_external_write(double strength) override {
    if (strength < 1) return;
    fill(vector(0), 0);
    last_lr_ = 0;
  }

  void save(State& state) const override {
    StatefulTransform::save(state);
    state.numbers[name() + ".last_lr"] = last_lr_;
  }
  Status load(const State& state) override {
    SINEW_RETURN_IF_ERROR(StatefulTransform::load(state));
    last_lr_ = state.numbers.at(name() + ".last_lr");
    return Status::Ok();
  }

 private:
  const double momentum_;
  double last_lr_ = 0;  // of the step from `previous`; 0: its movement is taken in
};

}  // namespace

TransformPtr quasi_global_momentum(double momentum) { return std::make_unique<QuasiGlobalMomentum>(momentum); }

}  // namespace sinew::optim
