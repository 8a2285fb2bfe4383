#include "optim/state.h"
#include "optim/transforms.h"
#include "optim/vector_math.h"

namespace sinew::optim {
namespace {

class Sophia : public StatefulTransform {
 public:
  explicit Sophia(const SophiaOptions& options)
      : StatefulTransform("sophia", {"momentum", "hessian"}, {"steps"}), options_(options) {
    check_averages("sophia", options.beta1, options.beta2, options.eps);
    SINEW_CHECK(options.curvature != Curvature::none && options.every >= 1 && options.samples >= 1, "sophia",
                "a new diagonal every ", options.every, " steps from ", options.samples, " samples");
  }
  void init(const ParamLayout& layout, DType dtype, Device device) override {
    StatefulTransform::init(layout, dtype, device);
    kernel_ = kernels(device).sophia;
  }
  Needs needs() const override {
    return counter(0) % options_.every == 0 ? Needs{options_.curvature, options_.samples} : Needs{};
  }

  void apply(VecView u, VecView, const StepInfo& info) override {
    VecView m = vector(0), h = vector(1), limit = scratch();
    if (needs().curvature != Curvature::none) average_into(h, options_.beta2, info.diagonal);
    average_into(m, options_.beta1, u);
    // max(rho h, eps) as a vector; then the quotient's size is limited to 1.
    fill(limit, options_.eps);
    map(UnaryOp::affine, h, u, options_.rho);
    combine(BinaryOp::maximum, u, limit, limit);
    map(UnaryOp::affine, m, u, count_step());
    combine(BinaryOp::div, u, limit, u);
    fill(limit, 1);
    combine(BinaryOp::minimum, u, limit, u);
    fill(limit, -1);
    combine(BinaryOp::maximum, u, limit, u);
  }

  bool recordable() const override { return true; }
  bool uses_curvature() const override { return true; }
  Stage stage() const override { return kernel_ ? Stage::rule : Stage::none; }
  void apply_fused(const kernel::UpdateFrame& frame, const StepInfo& info) override {
    kernel::SophiaArgs args{frame};
    if (needs().curvature != Curvature::none) args.d = info.diagonal.data;
    args.m = vector(0).data, args.h = vector(1).data;
    args.beta1 = options_.beta1, args.beta2 = options_.beta2, args.rho = options_.rho, args.eps = options_.eps;
    args.m_scale = count_step();
    kernel_(args);
  }

 private:
  // Counts the step; what m is multiplied with.
  double count_step() {
    const int64_t t = ++counter(0);
    return options_.bias_correction ? bias_correction(options_.beta1, t) : 1;
  }

  const SophiaOptions options_;
  void (*kernel_)(const kernel::SophiaArgs&) = nullptr;
};

}  // namespace

TransformPtr sophia(const SophiaOptions& options) { return std::make_unique<Sophia>(options); }

}  // namespace sinew::optim
