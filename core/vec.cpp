#include "core/vec.h"

#include <cmath>

#include "core/kernel_api.h"
#include "core/sha256.h"

namespace sinew {
namespace {

void check_same(const char* op, ConstVecView a, ConstVecView b) {
  SINEW_CHECK(a.size == b.size && a.dtype == b.dtype && a.device == b.device, op, "operands differ: ", a.size, " ",
              to_string(a.dtype), " on ", to_string(a.device), " and ", b.size, " ", to_string(b.dtype), " on ",
              to_string(b.device));
}
void check_float(const char* op, ConstVecView a) {
  SINEW_CHECK(is_float(a.dtype), op, "needs f32 or f64, got ", to_string(a.dtype));
}
void check_slice(int64_t size, int64_t offset, int64_t count) {
  SINEW_CHECK(offset >= 0 && count >= 0 && offset <= size - count, "slice", "[", offset, ", ", offset + count,
              ") of a vector of ", size);
}

// One double in the vector's device memory, read back. On the CPU it is a member: norms are taken in every step.
class DeviceScalar {
 public:
  explicit DeviceScalar(Device device)
      : storage_(device == Device::cpu ? nullptr : Storage::allocate(sizeof(double), device)) {}
  double* data() { return storage_ ? static_cast<double*>(storage_->data()) : &value_; }
  double read() {
    if (storage_) kernels(storage_->device()).download(&value_, storage_->data(), sizeof value_);
    return value_;
  }

 private:
  StorageRef storage_;
  double value_ = 0;
};

template <class T>
std::vector<double> doubles_of(ConstVecView x) {
  std::vector<T> host(static_cast<size_t>(x.size));
  download(x, host.data());
  return std::vector<double>(host.begin(), host.end());
}

double dot_of(ConstVecView x, ConstVecView y) {
  DeviceScalar result(x.device);
  kernels(x.device).dot({x.dtype, x.size, x.data, y.data, result.data()});
  return result.read();
}

}  // namespace

ConstVecView ConstVecView::slice(int64_t offset, int64_t count) const {
  check_slice(size, offset, count);
  return {static_cast<const char*>(data) + static_cast<size_t>(offset) * size_of(dtype), count, dtype, device};
}
VecView VecView::slice(int64_t offset, int64_t count) const {
  check_slice(size, offset, count);
  return {static_cast<char*>(data) + static_cast<size_t>(offset) * size_of(dtype), count, dtype, device};
}

Vec Vec::empty(int64_t size, DType dtype, Device device) {
  SINEW_CHECK(size >= 0, "vec", "negative size ", size);
  Vec v;
  v.storage_ = StorageRef(Storage::allocate(static_cast<size_t>(size) * size_of(dtype), device));
  v.size_ = size;
  v.dtype_ = dtype;
  return v;
}
Vec Vec::zeros(int64_t size, DType dtype, Device device) {
  Vec v = empty(size, dtype, device);
  fill(v.mutable_view(), 0);
  return v;
}
Vec Vec::slice(int64_t offset, int64_t count) const {
  check_slice(size_, offset, count);
  Vec part = *this;
  part.offset_ += offset;
  part.size_ = count;
  return part;
}
Vec Vec::copy_of(ConstVecView source) {
  Vec v = empty(source.size, source.dtype, source.device);
  copy(source, v.mutable_view());
  return v;
}

void fill(VecView y, double value) {
  if (y.size) kernels(y.device).fill({y.dtype, y.size, y.data, value});
}
void copy(ConstVecView from, VecView to) {
  check_same("copy", from, to);
  if (from.size && from.data != to.data) kernels(from.device).copy(to.data, from.data, from.bytes());
}
void axpby(double a, ConstVecView x, double b, ConstVecView y, VecView z) {
  check_float("axpby", x);
  check_same("axpby", x, z);
  if (b != 0) check_same("axpby", x, y);
  if (x.size) kernels(x.device).axpby({x.dtype, x.size, a, b, x.data, y.data, z.data});
}
double dot(ConstVecView x, ConstVecView y) {
  check_float("dot", x);
  check_same("dot", x, y);
  return x.size ? dot_of(x, y) : 0.0;
}
double norm(ConstVecView x) { return std::sqrt(dot(x, x)); }
double squared_distance(ConstVecView x, ConstVecView y) {
  check_float("squared_distance", x);
  check_same("squared_distance", x, y);
  if (!x.size) return 0;
  DeviceScalar result(x.device);
  kernels(x.device).elastic({x.dtype, x.size, 0.0, const_cast<void*>(x.data), const_cast<void*>(y.data), nullptr, false,
                             false, result.data()});
  return result.read();
}
bool all_finite(ConstVecView x) { return x.size == 0 || std::isfinite(dot(x, x)); }

void download(ConstVecView from, void* host) {
  if (from.size) kernels(from.device).download(host, from.data, from.bytes());
}
void upload(const void* host, VecView to) {
  if (to.size) kernels(to.device).upload(to.data, host, to.bytes());
}
std::vector<double> to_doubles(ConstVecView x) {
  if (x.dtype == DType::bf16) return doubles_of<bfloat16>(x);
  SINEW_DISPATCH_ALL(x.dtype, "to_doubles", return doubles_of<T>(x));
}
std::string sha256_hex(ConstVecView x) {
  if (x.device == Device::cpu) return sha256_hex(x.data, x.bytes());
  std::vector<char> host(x.bytes());
  download(x, host.data());
  return sha256_hex(host.data(), host.size());
}

}  // namespace sinew
