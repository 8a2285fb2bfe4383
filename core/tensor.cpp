#include "core/tensor.h"

#include <vector>

#include "core/autograd.h"
#include "core/kernel_api.h"

namespace sinew {

namespace detail {

// Frees the graph below a tensor without recursion: a chain of a million ops must not overflow the stack.
void destroy(TensorImpl* impl) {
  if (!impl->grad_fn || impl->grad_fn->count == 0) {
    delete impl->grad_fn;
    delete impl;
    return;
  }
  std::vector<TensorImpl*> pending{impl};
  while (!pending.empty()) {
    TensorImpl* t = pending.back();
    pending.pop_back();
    if (t->grad_fn) {
      for (Tensor& input : t->grad_fn->inputs()) {
        // Releases the handle's reference here, so that the node's destructor has nothing left to recurse into.
        TensorImpl* child = input.release();
        if (child && drop_reference(child->references)) pending.push_back(child);
      }
      delete t->grad_fn;
    }
    delete t;
  }
}

}  // namespace detail

namespace {

Tensor make(const Shape& shape, DType dtype, StorageRef storage, int64_t offset) {
  auto* impl = new detail::TensorImpl;
  impl->dtype = dtype;
  impl->shape = shape;
  impl->numel = shape.numel();
  impl->storage = std::move(storage);
  impl->offset = offset;
  return Tensor::adopt(impl);
}

}  // namespace

Tensor Tensor::empty(const Shape& shape, DType dtype, Device device) {
  const size_t bytes = static_cast<size_t>(shape.numel()) * size_of(dtype);
  return make(shape, dtype, StorageRef(Storage::allocate(bytes, device)), 0);
}

Tensor Tensor::full(const Shape& shape, double value, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  fill(t.output_view(), value);
  return t;
}

Tensor Tensor::from_host(const void* values, const Shape& shape, DType dtype, Device device) {
  Tensor t = empty(shape, dtype, device);
  upload(values, t.output_view());
  return t;
}

Tensor Tensor::view_of(const Vec& vec, int64_t offset, const Shape& shape, bool requires_grad) {
  SINEW_CHECK(offset >= 0 && offset + shape.numel() <= vec.size(), "view_of", "shape ", shape, " at ", offset,
              " of a vector of ", vec.size());
  Tensor t = make(shape, vec.dtype(), vec.storage(), vec.offset() + offset);
  t.impl()->requires_grad = requires_grad;
  return t;
}

void Tensor::read(void* host) const { download(view(), host); }

Tensor& Tensor::set_requires_grad(bool on) {
  SINEW_CHECK(!p_->grad_fn, "set_requires_grad", "of the result of ", p_->grad_fn->name, "; only leaves can be marked");
  SINEW_CHECK(!on || is_float_or_bf16(p_->dtype), "set_requires_grad", "a tensor of ", to_string(p_->dtype),
              " has no derivative");
  p_->requires_grad = on;
  return *this;
}

Tensor Tensor::detach() const { return make(p_->shape, p_->dtype, p_->storage, p_->offset); }

Tensor alias(const Tensor& t, const Shape& shape, int64_t offset) {
  return make(shape, t.dtype(), t.impl()->storage, t.impl()->offset + offset);
}

}  // namespace sinew
