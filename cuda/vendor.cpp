#include "cuda/vendor.h"

#include <atomic>
#include <limits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>

#include "cuda/entries.h"
#include "cuda/install.h"
#include "cuda/scratch.h"
#include "cuda/vendor/cublas.h"
#include "cuda/vendor/entries.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

constexpr size_t kCublasWorkspace = size_t{32} << 20;  // what NVIDIA advises for Hopper
constexpr size_t kMostWorkspace = size_t{256} << 20;   // of a convolution

struct Vendor {
  Cublas cublas{stream()};
  Cudnn cudnn{stream()};
  std::mutex mutex;  // of both handles, cuBLAS's workspace and choices
  std::map<std::pair<CudnnLayer, CudnnKind>, std::optional<CudnnChoice>> choices;
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

CudnnLayer layer_of(const kernel::ConvArgs& a) {
  const auto i = [&](int64_t value) {
    SINEW_CHECK(value <= std::numeric_limits<int>::max(), "conv", "an extent of ", value, " is too large for cuDNN");
    return static_cast<int>(value);
  };
  return {i(a.n),
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
}

std::optional<CudnnChoice> choice_for(const CudnnLayer& layer, CudnnKind kind) {
  Vendor& v = *vendor.load();
  const std::lock_guard lock(v.mutex);
  const auto [at, is_new] = v.choices.try_emplace({layer, kind});
  if (is_new && v.cudnn.describe(layer, kind)) at->second = v.cudnn.suggested(kMostWorkspace);
  return at->second;
}

// The three operands are of the layer's type.
void convolve(const CudnnLayer& layer, CudnnKind kind, const CudnnChoice& choice, bool accumulate, const void* x,
              const void* filter, const void* y) {
  const Scratch workspace(static_cast<int64_t>(choice.workspace));
  library_call(stream(), [=, memory = workspace.data()] {
    Vendor& v = *vendor.load();
    const std::lock_guard lock(v.mutex);
    const auto data = [](const void* p) { return const_cast<void*>(p); };
    SINEW_CHECK(v.cudnn.describe(layer, kind), "conv", "cuDNN refuses the layer's description");
    const int status =
        v.cudnn.run(choice, accumulate ? 1.0f : 0.0f, data(x), data(filter), data(y), memory, choice.workspace);
    SINEW_CHECK(status == 0, "conv", "cuDNN's algorithm ", choice.algorithm, " on x (", layer.n, ", ", layer.h, ", ",
                layer.w, ", ", layer.c, "), filters (", layer.k, ", ", layer.r, ", ", layer.s, ", ", layer.c,
                "): status ", status, "; --train.kernels own does without it");
  });
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
  const CudnnLayer layer = layer_of(a);
  const std::optional<CudnnChoice> choice = choice_for(layer, kind);
  if (!choice) return false;
  const bool bf16 = a.dtype == DType::bf16, finishes = a.bias != nullptr || a.act != Activation::none;
  const int64_t filters = a.k * a.r * a.s * a.c, outputs = a.n * a.p * a.q * a.k;
  const Scratch filter(bf16 ? filters * 2 : 0), bare(finishes ? outputs * (bf16 ? 2 : 4) : 0);
  const void* const read = bf16 ? filter.data() : a.filter;
  if (bf16 && kind != CudnnKind::dw) cast({DType::f32, DType::bf16, filters, a.filter, filter.data()});
  switch (kind) {
    case CudnnKind::forward:
      convolve(layer, kind, *choice, a.accumulate, a.x, read, finishes ? bare.data() : a.out);
      if (finishes) finish(a, bare.data());
      break;
    case CudnnKind::dx:
      convolve(layer, kind, *choice, a.accumulate, a.out, read, a.y);
      break;
    case CudnnKind::dw:
      convolve(layer, kind, *choice, false, a.x, bf16 ? filter.data() : a.out, a.y);
      if (bf16) cast({DType::bf16, DType::f32, filters, filter.data(), a.out});
      break;
  }
  return true;
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
