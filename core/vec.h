// Flat vectors and views of them: what optimizers, schemes and messages work on. No tensors, no graph here:
// dist includes this header and nothing above it.
//
// A view is a pointer, a length and a type; it owns nothing. A std::vector<float> makes a perfectly good view.
//
// Functions throw Error when lengths, types or devices differ. Thread safety: as for the memory viewed.
//
// Example:
//   Vec theta = Vec::zeros(layout.size(), DType::f32, Device::cpu);
//   axpby(-lr, gradient, 1.0, theta.view(), theta.view());       // theta -= lr * gradient
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/device.h"
#include "core/dtype.h"
#include "core/storage.h"

namespace sinew {

struct ConstVecView {
  const void* data = nullptr;
  int64_t size = 0;
  DType dtype = DType::f32;
  Device device = Device::cpu;

  ConstVecView() = default;
  ConstVecView(const void* d, int64_t n, DType t, Device dev = Device::cpu) : data(d), size(n), dtype(t), device(dev) {}
  template <class T>
  ConstVecView(const std::vector<T>& v) : ConstVecView(v.data(), static_cast<int64_t>(v.size()), dtype_of<T>) {}
  size_t bytes() const { return static_cast<size_t>(size) * size_of(dtype); }
  ConstVecView slice(int64_t offset, int64_t count) const;
};

struct VecView {
  void* data = nullptr;
  int64_t size = 0;
  DType dtype = DType::f32;
  Device device = Device::cpu;

  VecView() = default;
  VecView(void* d, int64_t n, DType t, Device dev = Device::cpu) : data(d), size(n), dtype(t), device(dev) {}
  template <class T>
  VecView(std::vector<T>& v) : VecView(v.data(), static_cast<int64_t>(v.size()), dtype_of<T>) {}
  operator ConstVecView() const { return {data, size, dtype, device}; }
  size_t bytes() const { return static_cast<size_t>(size) * size_of(dtype); }
  VecView slice(int64_t offset, int64_t count) const;
};

// Owning flat vector. Copying shares the memory; use clone() for a copy of the values.
class Vec {
 public:
  Vec() = default;
  static Vec empty(int64_t size, DType dtype, Device device = Device::cpu);
  static Vec zeros(int64_t size, DType dtype, Device device = Device::cpu);
  static Vec copy_of(ConstVecView source);
  Vec clone() const { return copy_of(view()); }
  // Elements [offset, offset + count), sharing memory and version.
  Vec slice(int64_t offset, int64_t count) const;

  bool defined() const { return static_cast<bool>(storage_); }
  int64_t size() const { return size_; }
  DType dtype() const { return dtype_; }
  Device device() const { return storage_ ? storage_->device() : Device::cpu; }
  const StorageRef& storage() const { return storage_; }
  int64_t offset() const { return offset_; }  // of the first element in the storage, in elements

  ConstVecView view() const { return {data(), size_, dtype_, device()}; }
  // A view to write through. Bumps the storage's version: tensors saved before are then stale, and say so.
  VecView mutable_view() {
    if (storage_) storage_->bump_version();
    return {data(), size_, dtype_, device()};
  }

 private:
  void* data() const {
    return storage_ ? static_cast<char*>(storage_->data()) + static_cast<size_t>(offset_) * size_of(dtype_) : nullptr;
  }

  StorageRef storage_;
  int64_t offset_ = 0, size_ = 0;
  DType dtype_ = DType::f32;
};

void fill(VecView y, double value);
void copy(ConstVecView from, VecView to);                                   // same device
void axpby(double a, ConstVecView x, double b, ConstVecView y, VecView z);  // z = a x + b y
double dot(ConstVecView x, ConstVecView y);                                 // fixed order, in double
double norm(ConstVecView x);                                                // Euclidean
double squared_distance(ConstVecView x, ConstVecView y);
// False when any element is NaN or infinite (or so large that the squared norm overflows a double).
bool all_finite(ConstVecView x);
// Host copies, for metrics, files and messages.
void download(ConstVecView from, void* host);
void upload(const void* host, VecView to);
std::vector<double> to_doubles(ConstVecView x);

// SHA-256 of the values' bytes, in hex: `parameters_sha256` of a run.
std::string sha256_hex(ConstVecView x);

}  // namespace sinew
