#include "cuda/vendor.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cuda/entries.h"
#include "cuda/install.h"
#include "cuda/scratch.h"
#include "cuda/vendor/cublas.h"
#include "cuda/vendor/entries.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr size_t kCublasWorkspace = size_t{32} << 20;  // what NVIDIA advises for Hopper
constexpr size_t kMostWorkspace = size_t{256} << 20;   // of a convolution

// cuDNN's algorithms for a layer, the next to use first; what it has refused is not among them any more.
struct Choices {
  std::vector<CudnnChoice> left;
  bool proven = false;  // the first of them has computed
};
struct Vendor {
  Cublas cublas{stream()};
  Cudnn cudnn{stream()};
  std::mutex mutex;  // of both handles, cuBLAS's workspace and choices
  std::map<std::pair<CudnnLayer, CudnnKind>, Choices> choices;
};
std::atomic<Vendor*> vendor = nullptr;  // once opened it stays
std::atomic<MatmulKernels> chosen = MatmulKernels::own;

Status open() {
  if (vendor != nullptr) return Status::Ok();
  auto opened = std::make_unique<Vendor>();
  for (const std::string& missing : {opened->cublas.missing(), opened->cudnn.missing()})
    if (!missing.empty()) return Status(StatusCode::unavailable, missing);
  // Graphs use it too, so it stays where it is.
  void* const memory = memory_allocate(kCublasWorkspace, stream());
  if (const int status = opened->cublas.use_workspace(memory, kCublasWorkspace); status != 0) {
    memory_free(memory, stream());
    return make_status(StatusCode::unavailable, "cuBLAS takes no workspace: its status is ", status);
  }
  vendor = opened.release();
  return Status::Ok();
}

// Nothing for extents that are too large for cuDNN.
std::optional<CudnnLayer> layer_of(const kernel::ConvArgs& a) {
  bool fits = true;
  const auto i = [&](int64_t value) {
    fits = fits && value <= std::numeric_limits<int>::max();
    return static_cast<int>(value);
  };
  const CudnnLayer layer{i(a.n),
                         i(a.h),
                         i(a.w),
                         i(a.c),
                         i(a.k),
                         i(a.r),
                         i(a.s),
                         i(a.p),
                         i(a.q),
                         i(a.stride_h),
                         i(a.stride_w),
                         i(a.pad_h),
                         i(a.pad_w),
                         true,
                         matmul_precision() == MatmulPrecision::tf32,
                         a.dtype == DType::bf16};
  return fits ? std::optional(layer) : std::nullopt;
}

// What it refused is not tried again.
void note(const CudnnLayer& layer, CudnnKind kind, const CudnnChoice& choice, bool works) {
  Vendor& v = *vendor.load();
  const std::lock_guard lock(v.mutex);
  Choices& choices = v.choices[{layer, kind}];
  if (choices.left.empty() || choices.left.front() != choice) return;  // another thread was here before
  choices.proven = works;
  if (!works) choices.left.erase(choices.left.begin());
}

// Whether another algorithm may do it: not where cuDNN has failed while it computed.
bool is_refusal(int status) { return status != 0 && status < 5000; }

// One convolution; the three operands are of the layer's type.
struct Convolution {
  CudnnLayer layer;
  CudnnKind kind;
  bool accumulate;
  const void *x, *filter, *y;

  size_t result_bytes() const {
    const CudnnLayer& l = layer;
    const auto product = [](auto... extents) { return (size_t{1} * ... * static_cast<size_t>(extents)); };
    return (l.bf16 ? 2 : 4) * (kind == CudnnKind::forward ? product(l.n, l.p, l.q, l.k)
                               : kind == CudnnKind::dx    ? product(l.n, l.h, l.w, l.c)
                                                          : product(l.k, l.r, l.s, l.c));
  }
  // Makes the call, on the process's stream or on another one: cuDNN's status, 0 is success. With a result elsewhere
  // than said, unless null.
  int run(const CudnnChoice& choice, void* result, void* workspace, Stream on) const {
    Vendor& v = *vendor.load();
    const std::lock_guard lock(v.mutex);
    const auto data = [&](CudnnKind written, const void* p) {
      return result != nullptr && kind == written ? result : const_cast<void*>(p);
    };
    constexpr int kNotDescribed = -1;
    if (!v.cudnn.describe(layer, kind)) return kNotDescribed;
    if (const int status = v.cudnn.use_stream(on); status != 0) return status;
    const int status =
        v.cudnn.run(choice, accumulate && result == nullptr ? 1.0f : 0.0f, data(CudnnKind::dx, x),
                    data(CudnnKind::dw, filter), data(CudnnKind::forward, y), workspace, choice.workspace);
    return std::max(status, v.cudnn.use_stream(stream()));
  }
  // Whether the algorithm works, found without a call that would be recorded. Nothing: there is no memory to find out.
  std::optional<bool> tried(const CudnnChoice& choice) const {
    constexpr size_t kAlignment = 256;
    const size_t bytes = (result_bytes() + kAlignment - 1) / kAlignment * kAlignment;
    int status = 0;
    const bool there = library_trial(bytes + choice.workspace, [&](Stream side, void* memory) {
      status = run(choice, memory, static_cast<char*>(memory) + bytes, side);
    });
    if (status != 0 && !is_refusal(status)) fail(choice, status);
    return there ? std::optional(status == 0) : std::nullopt;
  }
  // Whether it has computed, or has been recorded.
  bool done(const CudnnChoice& choice) const {
    const Scratch workspace(static_cast<int64_t>(choice.workspace));
    // The emulated device makes recorded calls when a graph is launched, too late for another choice.
    struct Outcome {
      int status = 0;
      bool too_late = false;
    };
    const auto outcome = std::make_shared<Outcome>();
    library_call(stream(), [=, *this, memory = workspace.data()] {
      outcome->status = run(choice, nullptr, memory, stream());
      if (outcome->status != 0 && (outcome->too_late || !is_refusal(outcome->status))) fail(choice, outcome->status);
    });
    outcome->too_late = true;
    return outcome->status == 0;
  }
  [[noreturn]] void fail(const CudnnChoice& choice, int status) const {
    SINEW_FAIL("conv", "cuDNN's algorithm ", choice.algorithm, " on x (", layer.n, ", ", layer.h, ", ", layer.w, ", ",
               layer.c, "), filters (", layer.k, ", ", layer.r, ", ", layer.s, ", ", layer.c, "): status ", status,
               "; --train.kernels own does without it");
  }
};

// By the first algorithm that works; false when none does.
bool convolve(const Convolution& c) {
  Vendor& v = *vendor.load();
  for (;;) {
    Choices choices;
    {
      const std::lock_guard lock(v.mutex);
      const auto [at, is_new] = v.choices.try_emplace({c.layer, c.kind});
      if (is_new && v.cudnn.describe(c.layer, c.kind)) at->second.left = v.cudnn.suggested(kMostWorkspace);
      choices = at->second;
    }
    if (choices.left.empty()) return false;
    const CudnnChoice& choice = choices.left.front();
    if (!choices.proven && is_recording()) {
      const std::optional<bool> works = c.tried(choice);
      if (!works) return false;
      note(c.layer, c.kind, choice, *works);
      if (!*works) continue;
    }
    const bool works = c.done(choice);
    note(c.layer, c.kind, choice, works);
    if (works) return true;
  }
}

// out = act(x + bias), by channel.
void finish(const kernel::ConvArgs& a, const void* x) {
  const Scratch vectors(3 * a.k * static_cast<int64_t>(sizeof(float)));
  float* const v = static_cast<float*>(vectors.data());
  fill({DType::f32, a.k, v, 0});
  fill({DType::f32, a.k, v + a.k, 1});
  fill({DType::f32, a.k, v + 2 * a.k, 0});
  channel_affine({a.dtype, a.act == Activation::relu, a.n * a.p * a.q, a.k, x, v, v + a.k,
                  a.bias != nullptr ? a.bias : v + 2 * a.k, nullptr, a.out});
}

}  // namespace

Status set_matmul_kernels(MatmulKernels value) {
  if (value == MatmulKernels::vendor) SINEW_RETURN_IF_ERROR(open());
  chosen = value;
  return Status::Ok();
}
MatmulKernels matmul_kernels() { return chosen; }

void vendor_product(const kernel::GemmArgs& args, DType c) {
  for (const int64_t extent : {args.m, args.n, args.k, args.lda, args.ldb, args.ldc, args.batch})
    SINEW_CHECK(extent <= std::numeric_limits<int>::max(), "gemm", "an extent of ", extent, " is too large for cuBLAS");
  const bool tf32 = matmul_precision() == MatmulPrecision::tf32;
  library_call(stream(), [=] {
    Vendor& v = *vendor.load();
    const std::lock_guard lock(v.mutex);
    const int status = v.cublas.multiply(args, c, tf32);
    SINEW_CHECK(status == 0, "gemm", "cuBLAS on (", args.m, ", ", args.k, ") x (", args.k, ", ", args.n, "): status ",
                status);
  });
}

bool vendor_convolution(CudnnKind kind, const kernel::ConvArgs& a) {
  if (chosen == MatmulKernels::own || a.dtype == DType::f64) return false;
  const std::optional<CudnnLayer> layer = layer_of(a);
  if (!layer) return false;
  const bool bf16 = a.dtype == DType::bf16, finishes = a.bias != nullptr || a.act != Activation::none;
  const int64_t filters = a.k * a.r * a.s * a.c, outputs = a.n * a.p * a.q * a.k;
  const Scratch filter(bf16 ? filters * 2 : 0), bare(finishes ? outputs * (bf16 ? 2 : 4) : 0);
  const void* const read = bf16 ? filter.data() : a.filter;
  if (bf16 && kind != CudnnKind::dw) cast({DType::f32, DType::bf16, filters, a.filter, filter.data()});
  switch (kind) {
    case CudnnKind::forward:
      if (!convolve({*layer, kind, a.accumulate, a.x, read, finishes ? bare.data() : a.out})) return false;
      if (finishes) finish(a, bare.data());
      break;
    case CudnnKind::dx:
      if (!convolve({*layer, kind, a.accumulate, a.out, read, a.y})) return false;
      break;
    case CudnnKind::dw:
      if (!convolve({*layer, kind, false, a.x, bf16 ? filter.data() : a.out, a.y})) return false;
      if (bf16) cast({DType::bf16, DType::f32, filters, filter.data(), a.out});
      break;
  }
  return true;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
