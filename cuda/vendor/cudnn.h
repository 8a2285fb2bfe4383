// cuDNN's (9) convolutions.
#pragma once

#include <algorithm>
#include <compare>
#include <cstdint>
#include <string>
#include <vector>

#include "cuda/runtime.h"
#include "cuda/vendor/library.h"

namespace sinew::cuda::SINEW_CUDA_NS {

struct CudnnLayer {
  int n, h, w, c, k, r, s, p, q, stride_h, stride_w, pad_h, pad_w;
  bool nhwc;  // of all three tensors, filters k, r, s, c; else nchw
  bool tf32;  // f32 factors may be rounded to TF32
  bool bf16;  // all three tensors, with sums in f32; else f32
  auto operator<=>(const CudnnLayer&) const = default;
};
enum class CudnnKind : uint8_t { forward, dx, dw };

struct CudnnChoice {
  int algorithm = 0, math = 0;
  size_t workspace = 0;  // bytes
  bool operator==(const CudnnChoice&) const = default;
};

// Thread safety: one thread at a time.
class Cudnn {
 public:
  explicit Cudnn(Stream stream) : library_("cuDNN", "SINEW_CUDNN", {"libcudnn.so.9"}) {
    library_.get("cudnnCreate", create_);
    library_.get("cudnnSetStream", set_stream_);
    library_.get("cudnnCreateTensorDescriptor", create_tensor_);
    library_.get("cudnnSetTensor4dDescriptor", set_tensor_);
    library_.get("cudnnCreateFilterDescriptor", create_filter_);
    library_.get("cudnnSetFilter4dDescriptor", set_filter_);
    library_.get("cudnnCreateConvolutionDescriptor", create_convolution_);
    library_.get("cudnnSetConvolution2dDescriptor", set_convolution_);
    library_.get("cudnnSetConvolutionMathType", set_math_);
    library_.get("cudnnGetConvolutionForwardAlgorithm_v7", get_[0]);
    library_.get("cudnnGetConvolutionBackwardDataAlgorithm_v7", get_[1]);
    library_.get("cudnnGetConvolutionBackwardFilterAlgorithm_v7", get_[2]);
    library_.get("cudnnGetConvolutionForwardWorkspaceSize", workspace_[0]);
    library_.get("cudnnGetConvolutionBackwardDataWorkspaceSize", workspace_[1]);
    library_.get("cudnnGetConvolutionBackwardFilterWorkspaceSize", workspace_[2]);
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
  // "" or one line; then nothing below may be called.
  const std::string& missing() const { return failed_.empty() ? library_.missing() : failed_; }

  // What the calls below are about.
  bool describe(const CudnnLayer& l, CudnnKind kind) {
    constexpr int kFloat = 0, kBf16 = 9, kNchw = 0, kNhwc = 1, kCorrelation = 1;
    const int format = l.nhwc ? kNhwc : kNchw, type = l.bf16 ? kBf16 : kFloat;
    kind_ = kind;
    only_fma_ = !l.bf16 && !l.tf32;
    return set_tensor_(x_, format, type, l.n, l.c, l.h, l.w) == 0 &&
           set_tensor_(y_, format, type, l.n, l.k, l.p, l.q) == 0 &&
           set_filter_(w_, type, format, l.k, l.c, l.r, l.s) == 0 &&
           set_convolution_(convolution_, l.pad_h, l.pad_w, l.stride_h, l.stride_w, 1, 1, kCorrelation, kFloat) == 0 &&
           set_math_(convolution_, only_fma_ ? kFmaMath
                                   : l.bf16  ? kTensorMath
                                             : kDefaultMath) == 0;
  }
  // The stream of the calls from here on. cuDNN's status, 0 is success.
  int use_stream(Stream stream) { return set_stream_(handle_, stream); }
  // The algorithms that give the same bits each time and need no more memory, first the one that cuDNN expects to be
  // the fastest. Computes nothing; each may still be refused by run().
  std::vector<CudnnChoice> suggested(size_t most_workspace) {
    order(nullptr, nullptr, nullptr);
    Trial trials[kMost] = {};
    int count = 0;
    if (get_[index()](handle_, operand_[0].descriptor, operand_[1].descriptor, convolution_, operand_[2].descriptor,
                      kMost, &count, trials) != 0)
      return {};
    return usable(trials, count, most_workspace, true);
  }
  // The fastest first, when tried; what the pointers lead to is overwritten by the trials.
  std::vector<CudnnChoice> fastest(void* x, void* w, void* y, void* workspace, size_t bytes) {
    order(x, w, y);
    Trial trials[kMost] = {};
    int count = 0;
    if (find_[index()](handle_, operand_[0].descriptor, operand_[0].data, operand_[1].descriptor, operand_[1].data,
                       convolution_, operand_[2].descriptor, operand_[2].data, kMost, &count, trials, workspace,
                       bytes) != 0)
      return {};
    return usable(trials, count, bytes, false);
  }
  // result = convolution + beta result. cuDNN's status, 0 is success.
  int run(const CudnnChoice& choice, float beta, void* x, void* w, void* y, void* workspace, size_t bytes) {
    const float one = 1;
    order(x, w, y);
    if (const int status = set_math_(convolution_, choice.math); status != 0) return status;
    return run_[index()](handle_, &one, operand_[0].descriptor, operand_[0].data, operand_[1].descriptor,
                         operand_[1].data, convolution_, choice.algorithm, workspace, bytes, &beta,
                         operand_[2].descriptor, operand_[2].data);
  }

 private:
  static constexpr int kDefaultMath = 0, kTensorMath = 1, kFmaMath = 3, kMost = 16;
  struct Trial {
    int algorithm, status;
    float time;
    size_t memory;
    int deterministic, math, reserved[3];
  };
  struct Operand {
    void *descriptor, *data;
  };

  int index() const { return static_cast<int>(kind_); }
  // They come with the fastest first, an algorithm once for each kind of arithmetic: those of ours before others, which
  // may do ours too. What memory an algorithm needs depends on the arithmetic, so it is asked for ours.
  std::vector<CudnnChoice> usable(const Trial* trials, int count, size_t most, bool deterministic) {
    std::vector<CudnnChoice> choices;
    for (const bool labelled : {true, false})
      for (int i = 0; i < count; ++i) {
        const Trial& t = trials[i];
        const int math = only_fma_ ? kFmaMath : t.math;
        if ((t.math == math) != labelled || t.status != 0 || (deterministic && t.deterministic != 1)) continue;
        CudnnChoice choice{t.algorithm, math, 0};
        if (set_math_(convolution_, math) != 0 ||
            workspace_[index()](handle_, operand_[0].descriptor, operand_[1].descriptor, convolution_,
                                operand_[2].descriptor, t.algorithm, &choice.workspace) != 0 ||
            choice.workspace > most || std::find(choices.begin(), choices.end(), choice) != choices.end())
          continue;
        choices.push_back(choice);
      }
    return choices;
  }
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
  bool only_fma_ = false;
  Operand operand_[3] = {};
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
  int (*get_[3])(void*, void*, void*, void*, void*, int wanted, int* count, Trial*);
  int (*workspace_[3])(void*, void*, void*, void*, void*, int algorithm, size_t* bytes);
  int (*find_[3])(void*, void*, const void*, void*, const void*, void*, void*, void*, int wanted, int* count, Trial*,
                  void* workspace, size_t bytes);
  int (*run_[3])(void*, const void* alpha, void*, const void*, void*, const void*, void*, int algorithm,
                 void* workspace, size_t bytes, const void* beta, void*, void*);
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
