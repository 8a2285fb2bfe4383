#include "optim/velocity.h"

#include <utility>

namespace sinew::optim {

VelocityTransform::VelocityTransform(std::string name, double momentum) : name_(std::move(name)), momentum_(momentum) {
  SINEW_CHECK(momentum >= 0 && momentum < 1, name_.c_str(), "momentum ", momentum, " is not in [0, 1)");
}

void VelocityTransform::init(const ParamLayout& layout, DType dtype, Device device) {
  velocity_ = Vec::zeros(layout.size(), dtype, device);
}

void VelocityTransform::save(State& state) const { state.vectors[name_ + ".velocity"] = velocity_.clone(); }

Status VelocityTransform::load(const State& state) {
  const Vec& saved = state.vectors.at(name_ + ".velocity");
  if (saved.size() != velocity_.size() || saved.dtype() != velocity_.dtype())
    return make_status(StatusCode::data_error, "optimizer state '", name_, ".velocity' has ", saved.size(), " ",
                       to_string(saved.dtype()), " elements; this model needs ", velocity_.size(), " ",
                       to_string(velocity_.dtype()));
  if (saved.device() == velocity_.device()) {
    copy(saved.view(), velocity_.mutable_view());
    return Status::Ok();
  }
  std::vector<std::byte> host(saved.view().bytes());
  download(saved.view(), host.data());
  upload(host.data(), velocity_.mutable_view());
  return Status::Ok();
}

}  // namespace sinew::optim
