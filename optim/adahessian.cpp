#include "optim/state.h"
#include "optim/transforms.h"
#include "optim/vector_math.h"

namespace sinew::optim {
namespace {

enum Vectors { kMomentum, kSquares, kDiagonal };
enum Counters { kSteps, kHessianSteps };

std::vector<std::string> vector_names(bool keeps_diagonal) {
  std::vector<std::string> names = {"momentum", "squares"};
  if (keeps_diagonal) names.emplace_back("diagonal");
  return names;
}

class AdaHessian : public StatefulTransform {
 public:
  explicit AdaHessian(const AdaHessianOptions& options)
      : StatefulTransform("adahessian", vector_names(options.repeat_stale), {"steps", "hessian_steps"}),
        options_(options) {
    check_averages("adahessian", options.beta1, options.beta2, options.eps);
    SINEW_CHECK(options.power >= 0 && options.power <= 1, "adahessian", "Hessian power ", options.power,
                " is not in [0, 1]");
    SINEW_CHECK(options.every >= 1 && options.samples >= 1 && options.block >= 1 && options.dense_steps >= 0,
                "adahessian", "a new diagonal every ", options.every, " steps from ", options.samples,
                " samples, blocks of ", options.block, ", ", options.dense_steps, " dense steps");
  }

  void init(const ParamLayout& layout, DType dtype, Device device) override {
    StatefulTransform::init(layout, dtype, device);
    kernel_ = kernels(device).adahessian;
    block_mean_ = kernels(device).block_mean;
    for (const Segment& s : layout.segments()) {
      // Filters are (out, spatial ..., in): one mean over all spatial axes. Matrices are (out, in): blocks of a row.
      const Shape& shape = s.shape;
      int64_t outer = shape.ndim() > 0 ? shape[0] : 1, length = 1, inner = 1, block = options_.block;
      if (shape.ndim() >= 3) {
        inner = shape[shape.ndim() - 1];
        length = block = s.numel / (outer * inner);
      } else if (shape.ndim() == 2) {
        length = shape[1];
      }
      if (length > 1 && block > 1)
        averaged_.push_back({s.offset, {dtype, outer, length, inner, block, !options_.signed_mean, nullptr}});
    }
    SINEW_CHECK(averaged_.empty() || block_mean_, "adahessian", "device ", to_string(device),
                " has no kernel 'block_mean'");
  }

  Needs needs() const override { return due() ? Needs{Curvature::hutchinson, options_.samples} : Needs{}; }

  void apply(VecView u, VecView, const StepInfo& info) override {
    const ConstVecView d = new_diagonal(info);
    VecView m = vector(kMomentum), v = vector(kSquares), size = scratch();
    if (d.data) {
      map(UnaryOp::square, d, size);
      average_into(v, options_.beta2, size);
    }
    const auto [m_scale, v_scale] = count_step(d.data != nullptr);
    average_into(m, options_.beta1, u);
    map(UnaryOp::affine, v, size, v_scale);
    map(UnaryOp::sqrt, size, size);
    if (options_.power != 1) map(UnaryOp::pow, size, size, options_.power);
    map(UnaryOp::affine, size, size, 1, options_.eps);
    map(UnaryOp::affine, m, u, m_scale);
    combine(BinaryOp::div, u, size, u);
  }

  bool recordable() const override { return true; }
  bool uses_curvature() const override { return true; }
  Stage stage() const override { return kernel_ ? Stage::rule : Stage::none; }
  void apply_fused(const kernel::UpdateFrame& frame, const StepInfo& info) override {
    const ConstVecView d = new_diagonal(info);
    const auto [m_scale, v_scale] = count_step(d.data != nullptr);
    kernel::AdaHessianArgs args{frame};
    args.m = vector(kMomentum).data, args.v = vector(kSquares).data, args.d = d.data;
    args.beta1 = options_.beta1, args.beta2 = options_.beta2;
    args.m_scale = m_scale, args.v_scale = v_scale;
    args.power = options_.power, args.eps = options_.eps;
    kernel_(args);
  }

 private:
  struct Averaged {
    int64_t offset;
    kernel::BlockMeanArgs args;
  };

  bool due() const { return counter(kSteps) < options_.dense_steps || counter(kSteps) % options_.every == 0; }

  // The diagonal that this step's average of squares takes in, averaged over space; empty: none.
  ConstVecView new_diagonal(const StepInfo& info) {
    if (due()) {
      for (Averaged& a : averaged_) {
        a.args.x = info.diagonal.slice(a.offset, a.args.outer * a.args.length * a.args.inner).data;
        block_mean_(a.args);
      }
      if (options_.repeat_stale) copy(info.diagonal, vector(kDiagonal));
      return info.diagonal;
    }
    return options_.repeat_stale ? ConstVecView(vector(kDiagonal)) : ConstVecView();
  }

  // What m and v are multiplied with in this step. The average of squares has a clock of its own.
  std::pair<double, double> count_step(bool new_squares) {
    const int64_t t = ++counter(kSteps);
    const int64_t th = counter(kHessianSteps) += new_squares;
    if (!options_.bias_correction) return {1, 1};
    return {bias_correction(options_.beta1, t), bias_correction(options_.beta2, th)};
  }

  const AdaHessianOptions options_;
  std::vector<Averaged> averaged_;
  void (*kernel_)(const kernel::AdaHessianArgs&) = nullptr;
  void (*block_mean_)(const kernel::BlockMeanArgs&) = nullptr;
};

}  // namespace

TransformPtr adahessian(const AdaHessianOptions& options) { return std::make_unique<AdaHessian>(options); }

}  // namespace sinew::optim
