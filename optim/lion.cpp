#include "optim/state.h"
#include "optim/transforms.h"
#include "optim/vector_math.h"

namespace sinew::optim {
namespace {

class Lion : public StatefulTransform {
 public:
  Lion(double beta1, double beta2) : StatefulTransform("lion", {"momentum"}), beta1_(beta1), beta2_(beta2) {
    check_averages("lion", beta1, beta2, 1);
  }
  void init(const ParamLayout& layout, DType dtype, Device device) override {
    StatefulTransform::init(layout, dtype, device);
    kernel_ = kernels(device).lion;
  }

  void apply(VecView u, VecView, const StepInfo&) override {
    VecView m = vector(0), direction = scratch();
    axpby(beta1_, m, 1 - beta1_, u, direction);
    average_into(m, beta2_, u);
    map(UnaryOp::sign, direction, u);
  }

  bool recordable() const override { return true; }
  Stage stage() const override { return kernel_ ? Stage::rule : Stage::none; }
  void apply_fused(const kernel::UpdateFrame& frame, const StepInfo&) override {
    kernel::LionArgs args{frame};
    args.m = vector(0).data, args.beta1 = beta1_, args.beta2 = beta2_;
    kernel_(args);
  }

 private:
  const double beta1_, beta2_;
  void (*kernel_)(const kernel::LionArgs&) = nullptr;
};

}  // namespace

TransformPtr lion(double beta1, double beta2) { return std::make_unique<Lion>(beta1, beta2); }

}  // namespace sinew::optim
