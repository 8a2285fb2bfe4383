#include <cmath>

#include "core/kernel_api.h"
#include "optim/transforms.h"

namespace sinew::optim {
namespace {

class Lars : public Transform {
 public:
  Lars(double trust, double decay) : trust_(trust), decay_(decay) {
    SINEW_CHECK(trust > 0 && decay >= 0, "lars", "trust coefficient ", trust, ", decay ", decay);
  }
  std::string name() const override { return "lars"; }
  void init(const ParamLayout& layout, DType, Device device) override {
    for (const Segment& s : layout.segments()) parameters_.emplace_back(s.offset, s.numel);
    squares_ = Vec::zeros(static_cast<int64_t>(2 * parameters_.size()), DType::f64, device);
    host_squares_.resize(2 * parameters_.size());
  }
  void apply(VecView u, VecView theta, const StepInfo&) override {
    // All squared norms first: one copy to the host.
    auto* result = static_cast<double*>(squares_.mutable_view().data);
    for (auto [offset, numel] : parameters_)
      for (ConstVecView v : {ConstVecView(theta), ConstVecView(u)}) {
        const void* part = v.slice(offset, numel).data;
        kernels(v.device).dot({v.dtype, numel, part, part, result++});
      }
    download(squares_.view(), host_squares_.data());
    const double* squares = host_squares_.data();
    for (auto [offset, numel] : parameters_) {
      const double weights = std::sqrt(*squares++), gradient = std::sqrt(*squares++);
      // A parameter that is still zero, or has no gradient, has no ratio to go by.
      const double ratio = weights > 0 && gradient > 0 ? trust_ * weights / (gradient + decay_ * weights) : 1;
      VecView g = u.slice(offset, numel);
      axpby(ratio, g, ratio * decay_, theta.slice(offset, numel), g);
    }
  }

 private:
  const double trust_, decay_;
  std::vector<std::pair<int64_t, int64_t>> parameters_;  // offset, length
  Vec squares_;                                          // of theta and u, parameter by parameter
  std::vector<double> host_squares_;
};

}  // namespace

TransformPtr lars(double trust, double decay) { return std::make_unique<Lars>(trust, decay); }

}  // namespace sinew::optim
