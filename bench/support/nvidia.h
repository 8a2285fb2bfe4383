// NVIDIA's libraries as references, opened at run time: cuBLAS and cuDNN (9). Only what the benchmarks call is
// declared, from the libraries' documentation; a missing library is one line from `missing()`.
#pragma once

#include <dlfcn.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sinew::bench {

class Library {
 public:
  explicit Library(const std::vector<std::string>& names) {
    for (const std::string& name : names)
      for (const char* folder : {"", "/usr/local/cuda/lib64/"})
        if (handle_ == nullptr) handle_ = dlopen((folder + name).c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle_ == nullptr) missing_ = names.front() + " is not there";
  }
  // f becomes the function of that name.
  template <class F>
  void get(const char* name, F*& f) {
    f = handle_ == nullptr ? nullptr : reinterpret_cast<F*>(dlsym(handle_, name));
    if (f == nullptr && missing_.empty()) missing_ = std::string("no function ") + name;
  }
  const std::string& missing() const { return missing_; }

 private:
  void* handle_ = nullptr;
  std::string missing_;
};

// C (m, n) = op(A) op(B), row-major.
class Cublas {
 public:
  explicit Cublas(void* stream) : library_({"libcublas.so.13", "libcublas.so.12"}) {
    library_.get("cublasCreate_v2", create_);
    library_.get("cublasSetStream_v2", set_stream_);
    library_.get("cublasSetMathMode", set_math_);
    library_.get("cublasSgemm_v2", sgemm_);
    library_.get("cublasGemmEx", gemm_ex_);
    if (!library_.missing().empty()) return;
    if (create_(&handle_) != 0 || set_stream_(handle_, stream) != 0) failed_ = "cuBLAS does not start";
  }
  const std::string& missing() const { return failed_.empty() ? library_.missing() : failed_; }

  // Row-major is column-major transposed, so A and B change places. tf32: on the tensor cores.
  bool gemm(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, const float* a, int64_t lda, const float* b,
            int64_t ldb, float* c, bool tf32) const {
    const float one = 1, zero = 0;
    constexpr int kDefaultMath = 0, kTf32Math = 3;
    return set_math_(handle_, tf32 ? kTf32Math : kDefaultMath) == 0 &&
           sgemm_(handle_, trans_b ? 1 : 0, trans_a ? 1 : 0, static_cast<int>(n), static_cast<int>(m),
                  static_cast<int>(k), &one, b, static_cast<int>(ldb), a, static_cast<int>(lda), &zero, c,
                  static_cast<int>(n)) == 0;
  }
  // Of bf16, sums in f32; C in bf16 or f32.
  bool gemm_bf16(bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k, const void* a, int64_t lda, const void* b,
                 int64_t ldb, void* c, bool narrow_c) const {
    const float one = 1, zero = 0;
    constexpr int kFloat = 0, kBf16 = 14, kComputeFloat = 68, kDefaultAlgorithm = -1;
    return gemm_ex_(handle_, trans_b ? 1 : 0, trans_a ? 1 : 0, static_cast<int>(n), static_cast<int>(m),
                    static_cast<int>(k), &one, b, kBf16, static_cast<int>(ldb), a, kBf16, static_cast<int>(lda), &zero,
                    c, narrow_c ? kBf16 : kFloat, static_cast<int>(n), kComputeFloat, kDefaultAlgorithm) == 0;
  }

 private:
  Library library_;
  std::string failed_;
  void* handle_ = nullptr;
  int (*create_)(void** handle);
  int (*set_stream_)(void* handle, void* stream);
  int (*set_math_)(void* handle, int mode);
  int (*sgemm_)(void* handle, int op_a, int op_b, int m, int n, int k, const float* alpha, const float* a, int lda,
                const float* b, int ldb, const float* beta, float* c, int ldc);
  int (*gemm_ex_)(void* handle, int op_a, int op_b, int m, int n, int k, const void* alpha, const void* a, int type_a,
                  int lda, const void* b, int type_b, int ldb, const void* beta, void* c, int type_c, int ldc,
                  int compute, int algorithm);
};

// A convolution's shape, for cuDNN.
struct CudnnLayer {
  int n, h, w, c, k, r, s, p, q, stride, pad;
  bool nhwc;  // of all three tensors; else nchw
  bool tf32;  // tensor cores allowed
  bool bf16;  // all three tensors, with sums in f32
};
enum class CudnnKind : uint8_t { forward, dx, dw };

// One convolution with the fastest algorithm that cuDNN finds by trying.
class Cudnn {
 public:
  explicit Cudnn(void* stream) : library_({"libcudnn.so.9"}) {
    library_.get("cudnnCreate", create_);
    library_.get("cudnnSetStream", set_stream_);
    library_.get("cudnnCreateTensorDescriptor", create_tensor_);
    library_.get("cudnnSetTensor4dDescriptor", set_tensor_);
    library_.get("cudnnCreateFilterDescriptor", create_filter_);
    library_.get("cudnnSetFilter4dDescriptor", set_filter_);
    library_.get("cudnnCreateConvolutionDescriptor", create_convolution_);
    library_.get("cudnnSetConvolution2dDescriptor", set_convolution_);
    library_.get("cudnnSetConvolutionMathType", set_math_);
    library_.get("cudnnFindConvolutionForwardAlgorithmEx", find_[0]);
    library_.get("cudnnFindConvolutionBackwardDataAlgorithmEx", find_[1]);
    library_.get("cudnnFindConvolutionBackwardFilterAlgorithmEx", find_[2]);
    library_.get("cudnnConvolutionForward", run_[0]);
    library_.get("cudnnConvolutionBackwardData", run_[1]);
    library_.get("cudnnConvolutionBackwardFilter", run_[2]);
    if (!library_.missing().empty()) return;
    if (create_(&handle_) != 0 || set_stream_(handle_, stream) != 0 || create_tensor_(&x_) != 0 ||
        create_tensor_(&y_) != 0 || create_filter_(&w_) != 0 || create_convolution_(&convolution_) != 0)
      failed_ = "cuDNN does not start";
  }
  const std::string& missing() const { return failed_.empty() ? library_.missing() : failed_; }

  // Describes the layer and chooses the algorithm; the pointers are overwritten by the trials' results.
  bool prepare(const CudnnLayer& l, CudnnKind kind, void* x, void* w, void* y, void* workspace, size_t bytes) {
    constexpr int kFloat = 0, kBf16 = 9, kNchw = 0, kNhwc = 1, kCorrelation = 1, kDefaultMath = 0, kTensorMath = 1;
    constexpr int kFmaMath = 3, kMost = 16;
    const int format = l.nhwc ? kNhwc : kNchw, type = l.bf16 ? kBf16 : kFloat;
    const int math = l.bf16 ? kTensorMath : l.tf32 ? kDefaultMath : kFmaMath;
    if (set_tensor_(x_, format, type, l.n, l.c, l.h, l.w) != 0 ||
        set_tensor_(y_, format, type, l.n, l.k, l.p, l.q) != 0 ||
        set_filter_(w_, type, format, l.k, l.c, l.r, l.s) != 0 ||
        set_convolution_(convolution_, l.pad, l.pad, l.stride, l.stride, 1, 1, kCorrelation, kFloat) != 0 ||
        set_math_(convolution_, math) != 0)
      return false;
    kind_ = kind, workspace_ = workspace, bytes_ = bytes;
    order(x, w, y);
    Trial trials[kMost] = {};
    int count = 0;
    if (find_[static_cast<int>(kind)](handle_, operand_[0].descriptor, operand_[0].data, operand_[1].descriptor,
                                      operand_[1].data, convolution_, operand_[2].descriptor, operand_[2].data, kMost,
                                      &count, trials, workspace, bytes) != 0)
      return false;
    for (int i = 0; i < count; ++i) {  // fastest first
      if (trials[i].status != 0 || trials[i].memory > bytes || (!l.tf32 && !l.bf16 && trials[i].math != kFmaMath))
        continue;
      algorithm_ = trials[i].algorithm;
      return set_math_(convolution_, trials[i].math) == 0;
    }
    return false;
  }
  bool run(void* x, void* w, void* y) {
    const float one = 1, zero = 0;
    order(x, w, y);
    return run_[static_cast<int>(kind_)](handle_, &one, operand_[0].descriptor, operand_[0].data,
                                         operand_[1].descriptor, operand_[1].data, convolution_, algorithm_, workspace_,
                                         bytes_, &zero, operand_[2].descriptor, operand_[2].data) == 0;
  }
  int algorithm() const { return algorithm_; }

 private:
  struct Trial {
    int algorithm, status;
    float time;
    size_t memory;
    int determinism, math, reserved[3];
  };
  struct Operand {
    void *descriptor, *data;
  };
  // Two inputs and the output, as each of the three functions takes them.
  void order(void* x, void* w, void* y) {
    const Operand ox{x_, x}, ow{w_, w}, oy{y_, y};
    if (kind_ == CudnnKind::forward)
      operand_[0] = ox, operand_[1] = ow, operand_[2] = oy;
    else if (kind_ == CudnnKind::dx)
      operand_[0] = ow, operand_[1] = oy, operand_[2] = ox;
    else
      operand_[0] = ox, operand_[1] = oy, operand_[2] = ow;
  }

  Library library_;
  std::string failed_;
  void *handle_ = nullptr, *x_ = nullptr, *y_ = nullptr, *w_ = nullptr, *convolution_ = nullptr;
  CudnnKind kind_ = CudnnKind::forward;
  Operand operand_[3] = {};
  int algorithm_ = 0;
  void* workspace_ = nullptr;
  size_t bytes_ = 0;
  int (*create_)(void**);
  int (*set_stream_)(void*, void*);
  int (*create_tensor_)(void**);
  int (*set_tensor_)(void*, int format, int type, int n, int c, int h, int w);
  int (*create_filter_)(void**);
  int (*set_filter_)(void*, int type, int format, int k, int c, int h, int w);
  int (*create_convolution_)(void**);
  int (*set_convolution_)(void*, int pad_h, int pad_w, int u, int v, int dilation_h, int dilation_w, int mode,
                          int compute);
  int (*set_math_)(void*, int);
  int (*find_[3])(void*, void*, const void*, void*, const void*, void*, void*, void*, int wanted, int* count, Trial*,
                  void* workspace, size_t bytes);
  int (*run_[3])(void*, const void* alpha, void*, const void*, void*, const void*, void*, int algorithm,
                 void* workspace, size_t bytes, const void* beta, void*, void*);
};

}  // namespace sinew::bench
