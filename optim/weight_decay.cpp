#include "optim/transforms.h"
#include "optim/vector_math.h"

namespace sinew::optim {
namespace {

class WeightDecay : public Transform {
 public:
  explicit WeightDecay(double decay) : decay_(decay) {}
  std::string name() const override { return "weight_decay"; }
  void init(const ParamLayout& layout, DType, Device) override {
    for (const Segment& s : layout.segments()) segments_.emplace_back(s.offset, s.numel);
  }

  void apply(VecView u, VecView theta, const StepInfo& info) override {
    axpby(decay_, theta, 1, u, u);
    add_to_diagonal(info.diagonal);
  }
  bool recordable() const override { return true; }
  Stage stage() const override { return Stage::coupled_decay; }
  void set_frame(kernel::UpdateFrame& frame, ConstVecView, const StepInfo& info) override {
    frame.weight_decay = decay_;
    add_to_diagonal(info.diagonal);
  }

 private:
  // Segment by segment: the padding stays zero.
  void add_to_diagonal(VecView diagonal) const {
    if (!diagonal.data) return;
    for (auto [offset, numel] : segments_) {
      VecView part = diagonal.slice(offset, numel);
      map(UnaryOp::affine, part, part, 1, decay_);
    }
  }

  const double decay_;
  std::vector<std::pair<int64_t, int64_t>> segments_;  // offset, length
};

}  // namespace

TransformPtr weight_decay(double decay) { return std::make_unique<WeightDecay>(decay); }

}  // namespace sinew::optim
