// An operand of the tensor cores' kernels of bf16: whole groups of 16 bytes, as it is in memory or copied by
// gemm_pack.cu, which also rounds f32.
#pragma once

#include <limits>

#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/kernels/matrix.h"

namespace sinew::cuda::SINEW_CUDA_NS {

inline int64_t whole_groups(int64_t n) { return ceil_divide(n, 8) * 8; }

// `count` matrices of rows x cols, `ld` elements between rows and `stride` between matrices.
struct Bf16Source {
  const void* data;
  bool f32;
  int64_t count, rows, cols, ld, stride;
};

// Owns its memory, which is given back once the kernels launched so far are done.
class PackedBf16 {
 public:
  // A copy has rows of whole groups, and rows_to >= rows of them, zeros beyond x.
  PackedBf16(const Bf16Source& x, int64_t rows_to) {
    const bool aligned = is_aligned_to(16, x.data) && x.cols % 8 == 0 && x.ld % 8 == 0 && x.stride % 8 == 0;
    if (!x.f32 && aligned && rows_to == x.rows) {
      data_ = static_cast<const bfloat16*>(x.data), ld_ = x.ld, stride_ = x.stride;
      return;
    }
    ld_ = whole_groups(x.cols), stride_ = rows_to * ld_;
    const int64_t groups = x.count * stride_ / 8;
    SINEW_CHECK(groups < std::numeric_limits<int32_t>::max(), "bf16", x.count, " matrices of (", rows_to, ", ", ld_,
                ") are too large for one launch");
    owned_ = static_cast<bfloat16*>(memory_allocate(static_cast<size_t>(std::max<int64_t>(groups, 1)) * 16, stream()));
    data_ = owned_;
    if (groups == 0) return;
    const PackShape shape{
        static_cast<uint32_t>(ld_ / 8), static_cast<uint32_t>(stride_ / 8), x.rows, x.cols, x.ld, x.stride, aligned};
    const auto run = [&]<class T>(const T* from) {
      launch(pack_kernel<T>(), {grid_blocks(groups, kPackThreads)}, {kPackThreads}, 0, stream(), groups, from, owned_,
             shape);
    };
    if (x.f32)
      run(static_cast<const float*>(x.data));
    else
      run(static_cast<const bfloat16*>(x.data));
  }
  explicit PackedBf16(const Bf16Source& x) : PackedBf16(x, x.rows) {}
  ~PackedBf16() {
    if (owned_ != nullptr) memory_free(owned_, stream());
  }
  PackedBf16(const PackedBf16&) = delete;
  PackedBf16& operator=(const PackedBf16&) = delete;

  const bfloat16* data() const { return data_; }
  int64_t ld() const { return ld_; }
  int64_t stride() const { return stride_; }

 private:
  const bfloat16* data_ = nullptr;
  bfloat16* owned_ = nullptr;
  int64_t ld_ = 0, stride_ = 0;
};

}  // namespace sinew::cuda::SINEW_CUDA_NS
