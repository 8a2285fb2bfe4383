#include "nn/module.h"

#include <utility>

#include "core/ops.h"

namespace sinew::nn {

ParamId Declarations::parameter(const std::string& name, const Shape& shape, const Initializer& init,
                                const FileLayout& file) {
  ParamId id{layout_.add(prefix_ + name, shape)};
  initializers_.push_back(init);
  file_layouts_.push_back(file);
  return id;
}

BufferId Declarations::buffer(const std::string& name, const Shape& shape, double initial) {
  BufferId id{buffer_layout_.add(prefix_ + name, shape)};
  buffer_initials_.push_back(initial);
  return id;
}

Parameters::Parameters(const ParamLayout& layout, const Vec& theta, bool requires_grad) {
  SINEW_CHECK(theta.size() == layout.size(), "parameters", "a vector of ", theta.size(), " elements for a layout of ",
              layout.size());
  tensors_.reserve(layout.segments().size());
  for (const Segment& s : layout.segments())
    tensors_.push_back(Tensor::view_of(theta, s.offset, s.shape, requires_grad));
}

Parameters::Parameters(const ParamLayout& layout, std::vector<Tensor> tensors) : tensors_(std::move(tensors)) {
  const std::vector<Segment>& segments = layout.segments();
  SINEW_CHECK(tensors_.size() == segments.size(), "parameters", tensors_.size(), " tensors for ", segments.size(),
              " parameters");
  for (size_t i = 0; i < segments.size(); ++i)
    SINEW_CHECK(tensors_[i].defined() && tensors_[i].shape() == segments[i].shape, "parameters", "'", segments[i].name,
                "' must have shape ", segments[i].shape);
}

Model::Model(std::string name, ModulePtr root, Shape input, int64_t outputs)
    : name_(std::move(name)), root_(std::move(root)), input_(input), outputs_(outputs) {
  SINEW_CHECK(root_ != nullptr, "model", "'", name_, "' has no root module");
  root_->declare(declarations_);
  state_layout_ = layout();
  for (const Segment& s : buffer_layout().segments()) state_layout_.add(s.name, s.shape);
}

FileLayout Model::file_layout(size_t i) const {
  const std::vector<FileLayout>& known = declarations_.file_layouts();
  return i < known.size() ? known[i] : FileLayout();
}

Parameters Model::parameters(const Vec& theta, bool requires_grad) const {
  SINEW_CHECK(theta.size() == state_layout_.size(), "model", "'", name_, "' has a vector of ", state_layout_.size(),
              " elements, got ", theta.size());
  return Parameters(layout(), theta.slice(0, layout().size()), requires_grad);
}

Buffers Model::buffers(const Vec& theta) const {
  SINEW_CHECK(theta.size() == state_layout_.size(), "model", "'", name_, "' has a vector of ", state_layout_.size(),
              " elements, got ", theta.size());
  return Buffers(buffer_layout(), theta.slice(layout().size(), buffer_layout().size()));
}

Vec Model::initialize(uint64_t seed, DType dtype, Device device) const {
  Vec theta = Vec::zeros(state_layout_.size(), dtype, device);
  VecView all = theta.mutable_view();
  for (size_t i = 0; i < layout().segments().size(); ++i) {
    const Segment& s = layout().segments()[i];
    RngKey key{seed, static_cast<uint32_t>(RngPurpose::init), static_cast<uint32_t>(i), 0};
    nn::initialize(declarations_.initializers()[i], s.shape, key, all.slice(s.offset, s.numel));
  }
  for (size_t i = 0; i < buffer_layout().segments().size(); ++i) {
    const Segment& s = buffer_layout().segments()[i];
    fill(all.slice(layout().size() + s.offset, s.numel), declarations_.buffer_initials()[i]);
  }
  return theta;
}

Tensor Model::forward(const Tensor& x, const Pass& pass) const {
  bool fits = x.ndim() == input_.ndim() + 1;
  for (int axis = 0; fits && axis < input_.ndim(); ++axis) fits = x.shape()[axis + 1] == input_[axis];
  SINEW_CHECK(fits, "model", "'", name_, "' takes samples of shape ", input_, " after the batch axis, got ", x.shape());
  Tensor y = root_->forward(pass.bf16 ? cast(x, DType::bf16) : x, pass);
  if (pass.bf16) y = cast(y, DType::f32);
  SINEW_CHECK(y.ndim() == 2 && y.shape()[0] == x.shape()[0] && y.shape()[1] == outputs_, "model", "'", name_, "' made ",
              y.shape(), " of ", x.shape(), ", declared with ", outputs_, " outputs");
  return y;
}

}  // namespace sinew::nn
