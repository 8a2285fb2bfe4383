// Tensor: a one-pointer handle on a row-major contiguous array that may be the result of a recorded operation.
//
// Invariants
//  - Contiguous, row-major, no strides; a view (reshape, a parameter of a flat vector) is an offset into a Storage.
//  - A tensor is immutable through this interface. In-place writes happen on flat vectors (core/vec.h), and a
//    tensor saved for a derivative before such a write is refused by backward with an Error.
//  - The graph is held by the tensors: a result keeps its inputs alive until the last handle goes. Destroying
//    a long chain is iterative. Nodes carry a creation number, so backward is a sort by number.
//
// Thread safety: handles may be copied across threads; one tensor may be read by many threads.
//
// Example:
//   Tensor x = Tensor::from_vector<float>({1, 2, 3, 4}, {2, 2});
//   Tensor y = sum(square(x));          // core/ops.h
//   float v = y.item<float>();
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "core/shape.h"
#include "core/storage.h"
#include "core/vec.h"

namespace sinew {

struct GradFn;  // core/autograd.h

namespace detail {
struct TensorImpl {
  std::atomic<uint32_t> references{1};
  DType dtype = DType::f32;
  bool requires_grad = false;
  Shape shape;
  int64_t numel = 0;
  StorageRef storage;
  int64_t offset = 0;         // elements
  uint64_t number = 0;        // creation number; 0 for leaves
  GradFn* grad_fn = nullptr;  // owned
};
void destroy(TensorImpl* impl);
}  // namespace detail

class Tensor {
 public:
  Tensor() = default;
  Tensor(const Tensor& other) : p_(other.p_) {
    if (p_) p_->references.fetch_add(1, std::memory_order_relaxed);
  }
  Tensor(Tensor&& other) noexcept : p_(other.p_) { other.p_ = nullptr; }
  Tensor& operator=(Tensor other) noexcept {
    std::swap(p_, other.p_);
    return *this;
  }
  ~Tensor() {
    if (p_ && drop_reference(p_->references)) detail::destroy(p_);
  }

  // ---- making leaves ----
  static Tensor empty(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu);
  static Tensor full(const Shape& shape, double value, DType dtype = DType::f32, Device device = Device::cpu);
  static Tensor zeros(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu) {
    return full(shape, 0, dtype, device);
  }
  static Tensor ones(const Shape& shape, DType dtype = DType::f32, Device device = Device::cpu) {
    return full(shape, 1, dtype, device);
  }
  // Copies host memory; values.size() must equal shape.numel().
  template <class T>
  static Tensor from_vector(const std::vector<T>& values, const Shape& shape, Device device = Device::cpu) {
    SINEW_CHECK(static_cast<int64_t>(values.size()) == shape.numel(), "from_vector", values.size(),
                " values for shape ", shape);
    return from_host(values.data(), shape, dtype_of<T>, device);
  }
  static Tensor from_host(const void* values, const Shape& shape, DType dtype, Device device = Device::cpu);
  // `shape` of vec's memory from element `offset` on, shared. A leaf.
  static Tensor view_of(const Vec& vec, int64_t offset, const Shape& shape, bool requires_grad = false);

  // ---- looking at them ----
  bool defined() const { return p_ != nullptr; }
  const Shape& shape() const { return p_->shape; }
  int64_t dim(int axis) const { return p_->shape.dim(axis); }
  int ndim() const { return p_->shape.ndim(); }
  int64_t numel() const { return p_->numel; }
  DType dtype() const { return p_->dtype; }
  Device device() const { return p_->storage->device(); }
  size_t bytes() const { return static_cast<size_t>(numel()) * size_of(dtype()); }
  // Device memory; dereference on the host only when device() is Device::cpu.
  void* data() const {
    return static_cast<char*>(p_->storage->data()) + static_cast<size_t>(p_->offset) * size_of(p_->dtype);
  }
  template <class T>
  T* data_as() const {
    SINEW_CHECK(dtype() == dtype_of<T>, "tensor", "holds ", to_string(dtype()), ", read as ", to_string(dtype_of<T>));
    return static_cast<T*>(data());
  }
  // The only element / all elements, copied to the host.
  template <class T>
  T item() const {
    SINEW_CHECK(numel() == 1 && dtype() == dtype_of<T>, "item", "of a tensor ", shape(), " ", to_string(dtype()));
    T value;
    read(&value);
    return value;
  }
  template <class T>
  std::vector<T> to_vector() const {
    SINEW_CHECK(dtype() == dtype_of<T>, "to_vector", "of ", to_string(dtype()), " as ", to_string(dtype_of<T>));
    std::vector<T> out(static_cast<size_t>(numel()));
    read(out.data());
    return out;
  }
  void read(void* host) const;  // bytes() bytes
  ConstVecView view() const { return {data(), numel(), dtype(), device()}; }
  // To write a tensor that was just made and that nobody has saved (kernels' outputs). Does not bump the version.
  VecView output_view() const { return {data(), numel(), dtype(), device()}; }

  // ---- the graph ----
  bool requires_grad() const { return p_->requires_grad; }
  // Marks a leaf. Throws Error on the result of a recorded op.
  Tensor& set_requires_grad(bool on = true);
  // The same values, cut from the graph.
  Tensor detach() const;

  detail::TensorImpl* impl() const { return p_; }
  static Tensor adopt(detail::TensorImpl* impl) {  // takes over one reference
    Tensor t;
    t.p_ = impl;
    return t;
  }
  // Gives up the handle's reference without dropping it.
  detail::TensorImpl* release() { return std::exchange(p_, nullptr); }
  static Tensor share(detail::TensorImpl* impl) {
    impl->references.fetch_add(1, std::memory_order_relaxed);
    return adopt(impl);
  }
  bool is_same(const Tensor& other) const { return p_ == other.p_; }

 private:
  detail::TensorImpl* p_ = nullptr;
};

// A tensor over the same storage with another shape and offset (elements). No graph edge; ops use it.
Tensor alias(const Tensor& t, const Shape& shape, int64_t offset = 0);

}  // namespace sinew
