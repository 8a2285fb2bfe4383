// The CPU's kernel table: our kernels for the best instruction set of this machine, oneDNN on top for gemm.
#include <cstdlib>
#include <cstring>

#include "core/cpu/cpu_info.h"
#include "core/cpu/onednn.h"
#include "core/kernel_api.h"
#include "core/storage.h"

namespace sinew {

#define SINEW_DECLARE_ISA(ns)          \
  namespace ns {                       \
  void fill_table(KernelTable& table); \
  }
SINEW_DECLARE_ISA(cpu_v2)
SINEW_DECLARE_ISA(cpu_v3)
SINEW_DECLARE_ISA(cpu_v4)
#undef SINEW_DECLARE_ISA

namespace {

enum class Isa { none, v2, v3, v4 };

Isa best_isa() {
  Isa best = Isa::none;
#if SINEW_CPU_HAS_v2
  best = Isa::v2;
#endif
#if defined(__x86_64__)
  __builtin_cpu_init();
#if SINEW_CPU_HAS_v3
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2")) best = Isa::v3;
#endif
#if SINEW_CPU_HAS_v4
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512cd"))
    best = Isa::v4;
#endif
#endif
  return best;
}

KernelTable own;  // without oneDNN

// oneDNN uses the machine's widest vectors whatever this build was compiled for. Where ours are as wide, the faster one
// of the two was measured, kind by kind, with bench/kernels/{gemm,conv}.cpp.
struct Widest {
  bool avx2 = false, avx512 = false;
};
Widest own_is_as_wide() {
  Widest w;
#if defined(__x86_64__)
  w.avx512 = best_isa() == Isa::v4;
  w.avx2 = best_isa() == Isa::v3 && !__builtin_cpu_supports("avx512f");
#endif
  return w;
}
Widest own_matches;

// On AVX2, untransposed operands with sums from this length on: ours take 0.6 to 0.7 of the time.
constexpr int64_t kLongSum = 64;

void gemm(const kernel::GemmArgs& args) {
  if (own_matches.avx2 && !args.trans_a && !args.trans_b && args.k >= kLongSum) return own.gemm(args);
  if (!onednn::gemm(args)) own.gemm(args);
}

// In f32 ours are faster on most filters larger than one pixel. Towards an image of few channels ours lose; so they do
// with AVX-512 towards the filters, except on the smallest images and by Winograd's filtering. In bf16 ours, by way of
// f32, win on those images alone, which fill oneDNN's tiles (AMX) badly; forward they must be smaller still.
constexpr int64_t kFewChannels = 4, kSmallImage = 16, kTinyImage = 4;
bool own_convolves(const kernel::ConvArgs& args, int64_t bf16_pixels) {
  const bool wide = own_matches.avx2 || own_matches.avx512;
  return wide && args.r * args.s > 1 && (args.dtype != DType::bf16 || args.p * args.q <= bf16_pixels);
}

// For a kernel that cannot accumulate: out += what it makes, `n` elements.
void add_result(bool (*convolve)(const kernel::ConvArgs&), void (*otherwise)(const kernel::ConvArgs&),
                kernel::ConvArgs args, int64_t n) {
  const StorageRef result(Storage::allocate(static_cast<size_t>(n) * size_of(args.dtype), Device::cpu));
  void* const sum = args.out;
  args.out = result->data(), args.accumulate = false;
  if (!convolve(args)) otherwise(args);
  own.binary({BinaryOp::add, args.dtype, 1, {n}, {1}, {1}, sum, args.out, sum});
}

void conv_forward(const kernel::ConvArgs& args) {
  if (own_convolves(args, kTinyImage)) return own.conv_forward(args);
  if (args.accumulate)
    return add_result(onednn::conv_forward, own.conv_forward, args, args.n * args.p * args.q * args.k);
  if (!onednn::conv_forward(args)) own.conv_forward(args);
}
void conv_dx(const kernel::ConvArgs& args) {
  if (own_convolves(args, kSmallImage) && args.c > kFewChannels) return own.conv_dx(args);
  if (args.accumulate) return add_result(onednn::conv_dx, own.conv_dx, args, args.n * args.h * args.w * args.c);
  if (!onednn::conv_dx(args)) own.conv_dx(args);
}
// What ours does by Winograd's filtering towards the filters, if the images are not few and fill its tiles of 4 x 4
// outputs (3 x 3 taps) or 2 x 2 (5 x 5) well (kernels/conv_winograd.h).
bool by_winograd(const kernel::ConvArgs& args) {
  const int64_t tile = 7 - args.r, pixels = args.p * args.q;
  const bool taps = (args.r == 3 || args.r == 5) && args.s == args.r;
  if (args.dtype != DType::f32 || !taps || args.stride_h != 1 || args.stride_w != 1) return false;
  const int64_t covered = (args.p + tile - 1) / tile * ((args.q + tile - 1) / tile) * tile * tile;
  return args.p >= tile && args.q >= tile && 3 * pixels > 2 * covered && args.c % 16 == 0 && args.k % 16 == 0 &&
         args.c * args.k <= 1 << 14 && args.n * pixels >= 1024;
}
void conv_dw(const kernel::ConvArgs& args) {
  const bool ours =
      own_convolves(args, kSmallImage) && (own_matches.avx2 || args.p * args.q <= kSmallImage || by_winograd(args));
  if (ours || !onednn::conv_dw(args)) own.conv_dw(args);
}

bool conv_pair(const kernel::ConvPairArgs& args) { return own_convolves(args, 0) && own.conv_pair(args); }

void* allocate(size_t bytes) {
  void* data = std::aligned_alloc(64, (bytes + 63) / 64 * 64);
  if (!data) SINEW_FAIL("allocate", bytes, " bytes: out of memory");
  return data;
}
void release(void* data, size_t) { std::free(data); }
void move_bytes(void* to, const void* from, size_t bytes) {
  if (bytes) std::memcpy(to, from, bytes);
}
void synchronize() {}

const KernelTable* tables[kDeviceCount] = {};

}  // namespace

const char* cpu_isa_name() {
  static const char* const names[] = {"none", "x86-64-v2", "x86-64-v3", "x86-64-v4"};
  return names[static_cast<int>(best_isa())];
}

const KernelTable& cpu_kernels() {
  static const KernelTable table = [] {
    KernelTable t;
    switch (best_isa()) {
#if SINEW_CPU_HAS_v2
      case Isa::v2:
        cpu_v2::fill_table(t);
        break;
#endif
#if SINEW_CPU_HAS_v3
      case Isa::v3:
        cpu_v3::fill_table(t);
        break;
#endif
#if SINEW_CPU_HAS_v4
      case Isa::v4:
        cpu_v4::fill_table(t);
        break;
#endif
      default:
        SINEW_FAIL("cpu", "this build has no kernels for this processor; configure with SINEW_CPU_ISAS=v2");
    }
    own = t;
    t.gemm = gemm;
    own_matches = own_is_as_wide();
    t.conv_forward = conv_forward, t.conv_dx = conv_dx, t.conv_dw = conv_dw;
    t.conv_pair = conv_pair;
    t.allocate = allocate;
    t.release = release;
    t.upload = t.download = t.copy = move_bytes;
    t.synchronize = synchronize;
    return t;
  }();
  return table;
}

void reference_gemm(const kernel::GemmArgs& args) {
  (void)cpu_kernels();
  own.gemm(args);
}
ConvKernels own_conv() {
  (void)cpu_kernels();
  return {own.conv_forward, own.conv_dx, own.conv_dw, own.conv_pair};
}
ConvKernels onednn_conv() {
  (void)cpu_kernels();
  return {[](const kernel::ConvArgs& args) { onednn::conv_forward(args) ? void() : own.conv_forward(args); },
          [](const kernel::ConvArgs& args) { onednn::conv_dx(args) ? void() : own.conv_dx(args); },
          [](const kernel::ConvArgs& args) { onednn::conv_dw(args) ? void() : own.conv_dw(args); }};
}

void refuse_type(const char* kernel, DType dtype) {
  SINEW_FAIL(kernel, "the cpu has no kernel for elements of type ", to_string(dtype));
}

bool has_kernels(Device device) { return device == Device::cpu || tables[static_cast<int>(device)] != nullptr; }

const KernelTable& kernels(Device device) {
  if (device == Device::cpu) return cpu_kernels();
  const KernelTable* table = tables[static_cast<int>(device)];
  SINEW_CHECK(table, "kernels", "no ", to_string(device), " backend is installed in this program");
  return *table;
}

void set_kernel_table(Device device, const KernelTable* table) {
  SINEW_CHECK(device != Device::cpu, "kernels", "the cpu table cannot be replaced");
  tables[static_cast<int>(device)] = table;
}

}  // namespace sinew
