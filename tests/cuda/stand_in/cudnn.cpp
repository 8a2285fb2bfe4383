// A stand-in for cuDNN on the emulated device, written from its documentation: what cuda/vendor/cudnn.h calls, on the
// CPU. Only algorithm kGood computes; what is suggested before it is a trap for who does not look, or does not ask how
// much memory it takes.
#include <cstddef>
#include <cstring>
#include <vector>

#include "core/bfloat16.h"

namespace {

constexpr int kNotInitialised = 1001, kBadParameter = 2000, kNotSupported = 3000;
constexpr int kNchw = 0, kNhwc = 1, kFloat = 0, kBf16 = 9, kCorrelation = 1, kFma = 3, kTensor = 1, kRefused = 5,
              kGood = 4;
constexpr size_t kWorkspace = 1000;

// Of a tensor (n, c, h, w) or of filters (k, c, r, s).
struct Tensor {
  int format = -1, type = -1, n = 0, c = 0, h = 0, w = 0;
  size_t at(int in, int ic, int ih, int iw) const {
    return static_cast<size_t>(format == kNhwc ? ((in * h + ih) * w + iw) * c + ic : ((in * c + ic) * h + ih) * w + iw);
  }
  double get(const void* data, size_t i) const {
    return type == kFloat ? static_cast<double>(static_cast<const float*>(data)[i])
                          : static_cast<double>(float(static_cast<const sinew::bfloat16*>(data)[i]));
  }
  // What the library's alpha and beta say.
  void put(void* data, size_t i, double value, float beta) const {
    if (beta != 0) value += static_cast<double>(beta) * get(data, i);
    if (type == kFloat)
      static_cast<float*>(data)[i] = static_cast<float>(value);
    else
      static_cast<sinew::bfloat16*>(data)[i] = sinew::bfloat16(static_cast<float>(value));
  }
};
struct Convolution {
  int pad_h = 0, pad_w = 0, step_h = 0, step_w = 0, math = -1;
};
struct Handle {
  void* stream = nullptr;
} the_handle;
long calls = 0, refusals = 0;
bool refuses_all = false;

struct Trial {
  int algorithm, status;
  float time;
  size_t memory;
  int deterministic, math, reserved[3];
};

bool fit(const Tensor& x, const Tensor& w, const Tensor& y, const Convolution& v) {
  return x.type == w.type && x.type == y.type && x.format == w.format && x.format == y.format && x.n == y.n &&
         x.c == w.c && w.n == y.c && y.h == (x.h + 2 * v.pad_h - w.h) / v.step_h + 1 &&
         y.w == (x.w + 2 * v.pad_w - w.w) / v.step_w + 1;
}

int suggest(bool good, int wanted, int* count, Trial* out) {
  if (!good) return kBadParameter;
  const Trial trials[] = {{1, 0, -1, 0, 0, kFma, {}},                // other bits each time
                          {2, kNotSupported, -1, 0, 1, kFma, {}},    // not for this layer
                          {3, 0, -1, size_t{1} << 40, 1, kFma, {}},  // too much memory
                          {kRefused, 0, -1, 0, 1, kFma, {}},         // only the call says no
                          {kGood, 0, -1, 0, 1, kTensor, {}},         // as much memory as that arithmetic needs
                          {0, 0, -1, 0, 1, kFma, {}}};
  *count = 0;
  for (const Trial& trial : trials)
    if (*count < wanted) out[(*count)++] = trial;
  return 0;
}

int size_of_workspace(bool good, const Convolution& v, int algorithm, size_t* bytes) {
  if (!good || v.math < 0) return kBadParameter;
  *bytes = algorithm == 3 ? size_t{1} << 40 : algorithm == kGood ? kWorkspace : 0;
  return algorithm == 0 ? kNotSupported : 0;
}

int found(bool good, int wanted, size_t bytes, int* count, Trial* out) {
  if (!good || wanted < 1) return kBadParameter;
  *count = bytes >= kWorkspace;
  *out = {kGood, 0, 1, kWorkspace, 1, kFma, {}};
  return 0;
}

// Every product of the convolution: body(place in x, in the filters, in y).
template <class Body>
void for_every_product(const Tensor& x, const Tensor& w, const Tensor& y, const Convolution& v, const Body& body) {
  for (int n = 0; n < y.n; ++n)
    for (int k = 0; k < y.c; ++k)
      for (int p = 0; p < y.h; ++p)
        for (int q = 0; q < y.w; ++q)
          for (int c = 0; c < x.c; ++c)
            for (int r = 0; r < w.h; ++r)
              for (int s = 0; s < w.w; ++s) {
                const int row = p * v.step_h + r - v.pad_h, column = q * v.step_w + s - v.pad_w;
                if (row < 0 || row >= x.h || column < 0 || column >= x.w) continue;
                body(x.at(n, c, row, column), w.at(k, c, r, s), y.at(n, k, p, q));
              }
}

int check_call(void* handle, bool fits, const Convolution& v, int algorithm, void* workspace, size_t bytes,
               const void* alpha) {
  if (handle != &the_handle || the_handle.stream == nullptr) return kNotInitialised;
  if (!fits || v.math < 0 || *static_cast<const float*>(alpha) != 1) return kBadParameter;
  if (refuses_all || algorithm != kGood || bytes < kWorkspace || workspace == nullptr) {
    ++refusals;
    return kNotSupported;
  }
  std::memset(workspace, 0x7B, kWorkspace);
  ++calls;
  return 0;
}

size_t elements(const Tensor& t) { return static_cast<size_t>(t.n) * t.c * t.h * t.w; }
// result[i] = sums[i] + beta * result[i]
void write(const Tensor& t, void* result, const std::vector<double>& sums, const void* beta) {
  for (size_t i = 0; i < elements(t); ++i) t.put(result, i, sums[i], *static_cast<const float*>(beta));
}

Tensor& tensor(void* p) { return *static_cast<Tensor*>(p); }
Convolution& convolution(void* p) { return *static_cast<Convolution*>(p); }

}  // namespace

extern "C" {

long stand_in_calls() { return calls; }
long stand_in_refusals() { return refusals; }
void stand_in_refuses_all(bool value) { refuses_all = value; }

int cudnnCreate(void** handle) {
  *handle = &the_handle;
  return 0;
}
int cudnnSetStream(void* handle, void* stream) {
  if (handle != &the_handle) return kNotInitialised;
  the_handle.stream = stream;
  return 0;
}
int cudnnCreateTensorDescriptor(void** made) {
  static Tensor all[2];
  static int next = 0;
  *made = &all[next++ % 2];
  return 0;
}
int cudnnCreateFilterDescriptor(void** made) {
  static Tensor filter;
  *made = &filter;
  return 0;
}
int cudnnCreateConvolutionDescriptor(void** made) {
  static Convolution one;
  *made = &one;
  return 0;
}
int cudnnSetTensor4dDescriptor(void* t, int format, int type, int n, int c, int h, int w) {
  if ((format != kNchw && format != kNhwc) || (type != kFloat && type != kBf16) || n < 1 || c < 1 || h < 1 || w < 1)
    return kBadParameter;
  tensor(t) = {format, type, n, c, h, w};
  return 0;
}
// Type and format change places in the real one, too.
int cudnnSetFilter4dDescriptor(void* t, int type, int format, int k, int c, int h, int w) {
  return cudnnSetTensor4dDescriptor(t, format, type, k, c, h, w);
}
int cudnnSetConvolution2dDescriptor(void* v, int pad_h, int pad_w, int step_h, int step_w, int dilation_h,
                                    int dilation_w, int mode, int compute) {
  if (pad_h < 0 || pad_w < 0 || step_h < 1 || step_w < 1 || dilation_h != 1 || dilation_w != 1 ||
      mode != kCorrelation || compute != kFloat)
    return kBadParameter;
  convolution(v) = {pad_h, pad_w, step_h, step_w, -1};
  return 0;
}
int cudnnSetConvolutionMathType(void* v, int math) {
  if (math < 0 || math > kFma) return kBadParameter;
  convolution(v).math = math;
  return 0;
}

int cudnnGetConvolutionForwardAlgorithm_v7(void*, void* x, void* w, void* v, void* y, int wanted, int* count,
                                           Trial* out) {
  return suggest(fit(tensor(x), tensor(w), tensor(y), convolution(v)), wanted, count, out);
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(void*, void* w, void* y, void* v, void* x, int wanted, int* count,
                                                Trial* out) {
  return suggest(fit(tensor(x), tensor(w), tensor(y), convolution(v)), wanted, count, out);
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void*, void* x, void* y, void* v, void* w, int wanted, int* count,
                                                  Trial* out) {
  return suggest(fit(tensor(x), tensor(w), tensor(y), convolution(v)), wanted, count, out);
}
int cudnnGetConvolutionForwardWorkspaceSize(void*, void* x, void* w, void* v, void* y, int algorithm, size_t* bytes) {
  return size_of_workspace(fit(tensor(x), tensor(w), tensor(y), convolution(v)), convolution(v), algorithm, bytes);
}
int cudnnGetConvolutionBackwardDataWorkspaceSize(void*, void* w, void* y, void* v, void* x, int algorithm,
                                                 size_t* bytes) {
  return size_of_workspace(fit(tensor(x), tensor(w), tensor(y), convolution(v)), convolution(v), algorithm, bytes);
}
int cudnnGetConvolutionBackwardFilterWorkspaceSize(void*, void* x, void* y, void* v, void* w, int algorithm,
                                                   size_t* bytes) {
  return size_of_workspace(fit(tensor(x), tensor(w), tensor(y), convolution(v)), convolution(v), algorithm, bytes);
}
// By trying, for the benchmarks: the one that works is the fastest.
int cudnnFindConvolutionForwardAlgorithmEx(void*, void* x, const void*, void* w, const void*, void* v, void* y, void*,
                                           int wanted, int* count, Trial* out, void*, size_t bytes) {
  return found(fit(tensor(x), tensor(w), tensor(y), convolution(v)), wanted, bytes, count, out);
}
int cudnnFindConvolutionBackwardDataAlgorithmEx(void*, void* w, const void*, void* y, const void*, void* v, void* x,
                                                void*, int wanted, int* count, Trial* out, void*, size_t bytes) {
  return found(fit(tensor(x), tensor(w), tensor(y), convolution(v)), wanted, bytes, count, out);
}
int cudnnFindConvolutionBackwardFilterAlgorithmEx(void*, void* x, const void*, void* y, const void*, void* v, void* w,
                                                  void*, int wanted, int* count, Trial* out, void*, size_t bytes) {
  return found(fit(tensor(x), tensor(w), tensor(y), convolution(v)), wanted, bytes, count, out);
}

int cudnnConvolutionForward(void* handle, const void* alpha, void* x, const void* x_data, void* w, const void* w_data,
                            void* v, int algorithm, void* workspace, size_t bytes, const void* beta, void* y,
                            void* y_data) {
  const Tensor &tx = tensor(x), &tw = tensor(w), &ty = tensor(y);
  const Convolution& tv = convolution(v);
  if (int status = check_call(handle, fit(tx, tw, ty, tv), tv, algorithm, workspace, bytes, alpha)) return status;
  std::vector<double> sums(elements(ty));
  for_every_product(tx, tw, ty, tv,
                    [&](size_t i, size_t f, size_t o) { sums[o] += tx.get(x_data, i) * tw.get(w_data, f); });
  write(ty, y_data, sums, beta);
  return 0;
}
int cudnnConvolutionBackwardData(void* handle, const void* alpha, void* w, const void* w_data, void* y,
                                 const void* y_data, void* v, int algorithm, void* workspace, size_t bytes,
                                 const void* beta, void* x, void* x_data) {
  const Tensor &tx = tensor(x), &tw = tensor(w), &ty = tensor(y);
  const Convolution& tv = convolution(v);
  if (int status = check_call(handle, fit(tx, tw, ty, tv), tv, algorithm, workspace, bytes, alpha)) return status;
  std::vector<double> sums(elements(tx));
  for_every_product(tx, tw, ty, tv,
                    [&](size_t i, size_t f, size_t o) { sums[i] += ty.get(y_data, o) * tw.get(w_data, f); });
  write(tx, x_data, sums, beta);
  return 0;
}
int cudnnConvolutionBackwardFilter(void* handle, const void* alpha, void* x, const void* x_data, void* y,
                                   const void* y_data, void* v, int algorithm, void* workspace, size_t bytes,
                                   const void* beta, void* w, void* w_data) {
  const Tensor &tx = tensor(x), &tw = tensor(w), &ty = tensor(y);
  const Convolution& tv = convolution(v);
  if (int status = check_call(handle, fit(tx, tw, ty, tv), tv, algorithm, workspace, bytes, alpha)) return status;
  std::vector<double> sums(elements(tw));
  for_every_product(tx, tw, ty, tv,
                    [&](size_t i, size_t f, size_t o) { sums[f] += tx.get(x_data, i) * ty.get(y_data, o); });
  write(tw, w_data, sums, beta);
  return 0;
}

}  // extern "C"
