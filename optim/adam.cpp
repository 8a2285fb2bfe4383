#include "optim/state.h"
#include "optim/transforms.h"
#include "optim/vector_math.h"

namespace sinew::optim {
namespace {

class Adam : public StatefulTransform {
 public:
  explicit Adam(const AdamOptions& options)
      : StatefulTransform("adam", {"momentum", "squares"}, {"steps"}), options_(options) {
    check_averages("adam", options.beta1, options.beta2, options.eps);
  }
  void init(const ParamLayout& layout, DType dtype, Device device) override {
    StatefulTransform::init(layout, dtype, device);
    kernel_ = kernels(device).adam;
  }

  void apply(VecView u, VecView, const StepInfo&) override {
    const auto [m_scale, v_scale] = count_step();
    VecView m = vector(0), v = vector(1), size = scratch();
    average_into(m, options_.beta1, u);
    map(UnaryOp::square, u, size);
    average_into(v, options_.beta2, size);
    map(UnaryOp::affine, v, size, v_scale);
    map(UnaryOp::sqrt, size, size);
    map(UnaryOp::affine, size, size, 1, options_.eps);
    map(UnaryOp::affine, m, u, m_scale);
    combine(BinaryOp::div, u, size, u);
  }

  bool recordable() const override { return true; }
  Stage stage() const override { return kernel_ ? Stage::rule : Stage::none; }
  void apply_fused(const kernel::UpdateFrame& frame, const StepInfo&) override {
    const auto [m_scale, v_scale] = count_step();
    kernel::AdamArgs args{frame};
    args.m = vector(0).data, args.v = vector(1).data;
    args.beta1 = options_.beta1, args.beta2 = options_.beta2, args.eps = options_.eps;
    args.m_scale = m_scale, args.v_scale = v_scale;
    kernel_(args);
  }

 private:
  std::pair<double, double> count_step() {
    const int64_t t = ++counter(0);
    return {bias_correction(options_.beta1, t), bias_correction(options_.beta2, t)};
  }

  const AdamOptions options_;
  void (*kernel_)(const kernel::AdamArgs&) = nullptr;
};

}  // namespace

TransformPtr adam(const AdamOptions& options) { return std::make_unique<Adam>(options); }

}  // namespace sinew::optim
