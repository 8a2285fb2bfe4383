// A stand-in for cuBLAS on the emulated device, written from its documentation: what cuda/vendor/cublas.h calls, on the
// CPU, column-major. Bad arguments give cuBLAS's statuses.
#include <algorithm>
#include <cmath>
#include <cstddef>

#include "core/bfloat16.h"

namespace {

constexpr int kNotInitialised = 1, kInvalidValue = 7, kNotSupported = 15;
constexpr int kFloat = 0, kDouble = 1, kBf16 = 14, kComputeFloat = 68, kComputeDouble = 70, kComputeTf32 = 77;

struct Handle {
  void* stream = nullptr;
  void* workspace = nullptr;
} the_handle;
long calls = 0;

double tf32(double value) {
  int exponent = 0;
  const double fraction = std::frexp(value, &exponent);
  return std::ldexp(std::nearbyint(fraction * 2048), exponent - 11);  // 11 bits with the leading one
}

struct Matrix {
  const void* data;
  int type, ld;
  bool transposed;
  double at(long long base, int row, int column) const {
    if (transposed) std::swap(row, column);
    const long long i = base + row + static_cast<long long>(column) * ld;
    if (type == kDouble) return static_cast<const double*>(data)[i];
    if (type == kFloat) return static_cast<double>(static_cast<const float*>(data)[i]);
    return static_cast<double>(float(static_cast<const sinew::bfloat16*>(data)[i]));
  }
};
void put(void* data, int type, long long i, double value) {
  if (type == kDouble)
    static_cast<double*>(data)[i] = value;
  else if (type == kFloat)
    static_cast<float*>(data)[i] = static_cast<float>(value);
  else
    static_cast<sinew::bfloat16*>(data)[i] = sinew::bfloat16(static_cast<float>(value));
}

}  // namespace

extern "C" {

long stand_in_calls() { return calls; }
bool stand_in_has_workspace() { return the_handle.workspace != nullptr; }

int cublasCreate_v2(void** handle) {
  *handle = &the_handle;
  return 0;
}
// Takes cuBLAS's own workspace again, as the real one does.
int cublasSetStream_v2(void* handle, void* stream) {
  if (handle != &the_handle) return kNotInitialised;
  the_handle = {stream, nullptr};
  return 0;
}
int cublasSetWorkspace_v2(void* handle, void* memory, size_t bytes) {
  if (handle != &the_handle) return kNotInitialised;
  if (memory == nullptr || bytes == 0) return kInvalidValue;
  the_handle.workspace = memory;
  return 0;
}

int cublasGemmStridedBatchedEx(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a,
                               int type_a, int lda, long long stride_a, const void* b, int type_b, int ldb,
                               long long stride_b, const void* beta, void* c, int type_c, int ldc, long long stride_c,
                               int batch, int compute, int algorithm) {
  if (handle != &the_handle || the_handle.stream == nullptr) return kNotInitialised;
  if (m < 0 || n < 0 || k < 0 || batch < 0 || op_a < 0 || op_a > 1 || op_b < 0 || op_b > 1 ||
      lda < std::max(1, op_a ? k : m) || ldb < std::max(1, op_b ? n : k) || ldc < std::max(1, m) || algorithm != -1)
    return kInvalidValue;
  const bool doubles = type_a == kDouble && type_c == kDouble && compute == kComputeDouble;
  const bool floats = type_a == kFloat && type_c == kFloat && (compute == kComputeFloat || compute == kComputeTf32);
  const bool narrow = type_a == kBf16 && (type_c == kBf16 || type_c == kFloat) && compute == kComputeFloat;
  if (type_a != type_b || (!doubles && !floats && !narrow)) return kNotSupported;
  ++calls;
  const auto scale = [&](const void* p) {
    return doubles ? *static_cast<const double*>(p) : static_cast<double>(*static_cast<const float*>(p));
  };
  const Matrix left{a, type_a, lda, op_a == 1}, right{b, type_b, ldb, op_b == 1}, old{c, type_c, ldc, false};
  for (int z = 0; z < batch; ++z)
    for (int j = 0; j < n; ++j)
      for (int i = 0; i < m; ++i) {
        double sum = 0;
        for (int p = 0; p < k; ++p) {
          const double x = left.at(z * stride_a, i, p), y = right.at(z * stride_b, p, j);
          sum += compute == kComputeTf32 ? tf32(x) * tf32(y) : x * y;
        }
        sum *= scale(alpha);
        if (scale(beta) != 0) sum += scale(beta) * old.at(z * stride_c, i, j);
        put(c, type_c, z * stride_c + i + static_cast<long long>(j) * ldc, sum);
      }
  return 0;
}

int cublasGemmEx(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a,
                 int lda, const void* b, int type_b, int ldb, const void* beta, void* c, int type_c, int ldc,
                 int compute, int algorithm) {
  return cublasGemmStridedBatchedEx(handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, 0, b, type_b, ldb, 0, beta, c,
                                    type_c, ldc, 0, 1, compute, algorithm);
}

}  // extern "C"
