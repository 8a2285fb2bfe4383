// Host side of elementwise_copy.cu.
#include <cstring>

#include "cuda/axes.h"
#include "cuda/entries.h"
#include "cuda/grid.h"
#include "cuda/kernels/copy.h"

namespace sinew::cuda::SINEW_CUDA_NS {
namespace {

template <class Unit, class T>
void run_fill(const kernel::FillArgs& args) {
  const T value = static_cast<T>(args.value);
  Unit unit;
  static_assert(sizeof(unit) == sizeof(value));
  std::memcpy(&unit, &value, sizeof(unit));
  Unit* y = static_cast<Unit*>(args.y);
  const int64_t packs = packs_of<Unit>(args.n, y);
  launch(fill_kernel<Unit>(), {grid_blocks(packs > 0 ? packs : args.n, kCopyThreads)}, {kCopyThreads}, 0, stream(),
         args.n, packs, unit, y);
}

template <class T>
void run_where(const kernel::WhereArgs& args) {
  const int64_t packs = packs_of<T>(args.n, args.mask, args.a, args.b, args.y);
  launch(where_kernel<T>(), {grid_blocks(packs > 0 ? packs : args.n, kCopyThreads * kWhereUnroll)}, {kCopyThreads}, 0,
         stream(), args.n, packs, static_cast<const T*>(args.mask), static_cast<const T*>(args.a),
         static_cast<const T*>(args.b), static_cast<T*>(args.y));
}

template <class From, class To>
void run_cast(const kernel::CastArgs& args) {
  const int64_t width = kCastWidth<From, To>;
  const bool aligned = is_aligned_to(static_cast<size_t>(width) * sizeof(From), args.x) &&
                       is_aligned_to(static_cast<size_t>(width) * sizeof(To), args.y);
  const int64_t groups = aligned ? args.n / width : 0;
  launch(cast_kernel<From, To>(), {grid_blocks(groups > 0 ? groups : args.n, kCopyThreads * kCastUnroll<From, To>)},
         {kCopyThreads}, 0, stream(), args.n, groups, static_cast<const From*>(args.x), static_cast<To*>(args.y));
}

// a: x, b: y. Strides in units.
template <class Unit>
void run_copy(const Axes& axes, const void* x, void* y) {
  in_parts(axes, [&](const Space& space, int64_t n, int64_t at_x, int64_t at_y, int64_t) {
    launch(copy_kernel<Unit>(false), {grid_blocks(n, kCopyThreads * kCopyUnroll)}, {kCopyThreads}, 0, stream(), n,
           static_cast<const Unit*>(x) + at_x, static_cast<Unit*>(y) + at_y, space);
  });
}

// The innermost axis is contiguous on both sides: the largest unit that extent, strides and pointers are multiples of.
template <class Unit>
bool run_copy_in(const Axes& axes, int64_t element, const void* x, void* y) {
  const int64_t width = static_cast<int64_t>(sizeof(Unit)) / element;
  if (width == 0 || axes.extent[0] % width != 0 || !is_aligned_to(sizeof(Unit), x) || !is_aligned_to(sizeof(Unit), y))
    return false;
  for (int i = 1; i < axes.count; ++i)
    if (axes.a[i] % width != 0 || axes.b[i] % width != 0) return false;
  run_copy<Unit>(in_groups(axes, width), x, y);
  return true;
}

// One element of x fills groups of y.
template <class Unit>
bool run_spread(const Axes& axes, const Unit* x, Unit* y) {
  const int64_t width = 16 / static_cast<int64_t>(sizeof(Unit));
  if (axes.extent[0] % width != 0 || !is_aligned_to(16, y)) return false;
  for (int i = 1; i < axes.count; ++i)
    if (axes.b[i] % width != 0) return false;
  in_parts(in_groups(axes, width), [&](const Space& space, int64_t n, int64_t at_x, int64_t at_y, int64_t) {
    launch(copy_kernel<Unit>(true), {grid_blocks(n, kCopyThreads * kCopyUnroll)}, {kCopyThreads}, 0, stream(), n,
           x + at_x, y + at_y * width, space);
  });
  return true;
}

// Below this extent of either side most of a tile would be empty.
constexpr int64_t kSmallestTransposed = 16;
constexpr unsigned kTransposeThreads = 32;
// Tiles of 64 x 64 where there are enough of them to keep a GPU busy: twice the bytes in a row.
constexpr int64_t kTransposeTile = 32, kLargeTransposeTile = 64, kEnoughLargeTiles = 1024;

// y is contiguous along the innermost axis and x along another.
template <class Unit>
bool run_transpose(const Axes& axes, const Unit* x, Unit* y) {
  int along_x = 1;
  while (along_x < axes.count && axes.a[along_x] != 1) ++along_x;
  if (along_x >= axes.count || axes.b[0] != 1) return false;
  const int64_t columns = axes.extent[along_x], rows = axes.extent[0];
  if (rows < kSmallestTransposed || columns < kSmallestTransposed || rows > INT32_MAX || columns > INT32_MAX)
    return false;
  const int64_t x_pitch = axes.a[0], y_pitch = axes.b[along_x];
  Axes outer;
  for (int i = 1; i < axes.count; ++i)
    if (i != along_x) outer.add_outer(axes.extent[i], axes.a[i], axes.b[i]);
  const bool large =
      sizeof(Unit) <= 4 && rows >= kLargeTransposeTile && columns >= kLargeTransposeTile &&
      outer.elements() * (rows / kLargeTransposeTile) * (columns / kLargeTransposeTile) >= kEnoughLargeTiles;
  const int64_t tile = large ? kLargeTransposeTile : kTransposeTile;
  const int64_t tiles_across = ceil_divide(columns, tile), tiles = tiles_across * ceil_divide(rows, tile);
  if (tiles > INT32_MAX) return false;
  // The number of a tile has to fit a grid.
  in_parts(
      outer,
      [&](const Space& space, int64_t matrices, int64_t at_x, int64_t at_y, int64_t) {
        launch(transpose_kernel<Unit>(large), {static_cast<unsigned>(matrices * tiles)},
               {kTransposeThreads, kTransposeRows}, 0, stream(), static_cast<int>(rows), static_cast<int>(columns),
               x_pitch, y_pitch, Divisor(tiles_across), Divisor(tiles), space, x + at_x, y + at_y);
      },
      INT32_MAX / tiles);
  return true;
}

template <class Unit>
void run_strided(const Axes& axes, const void* from, void* to) {
  const Unit* x = static_cast<const Unit*>(from);
  Unit* y = static_cast<Unit*>(to);
  constexpr auto kBytes = static_cast<int64_t>(sizeof(Unit));
  if (axes.count > 0 && axes.a[0] == 1 && axes.b[0] == 1) {
    if (axes.count == 1) {
      copy_on_device(y, x, static_cast<size_t>(axes.extent[0] * kBytes), stream());
      return;
    }
    if (run_copy_in<Unit16>(axes, kBytes, x, y) || run_copy_in<uint64_t>(axes, kBytes, x, y) ||
        run_copy_in<uint32_t>(axes, kBytes, x, y))
      return;
  } else if (axes.count > 0 && axes.a[0] == 0 && axes.b[0] == 1) {
    if (run_spread(axes, x, y)) return;
  } else if (run_transpose(axes, x, y)) {
    return;
  }
  run_copy<Unit>(axes, x, y);
}

}  // namespace

void fill(const kernel::FillArgs& args) {
  if (args.n == 0) return;
  switch (args.dtype) {
    case DType::f32:
      return run_fill<uint32_t, float>(args);
    case DType::f64:
      return run_fill<uint64_t, double>(args);
    case DType::i32:
      return run_fill<uint32_t, int32_t>(args);
    case DType::i64:
      return run_fill<uint64_t, int64_t>(args);
    case DType::u8:
      return run_fill<uint8_t, uint8_t>(args);
    case DType::bf16:
      return run_fill<uint16_t, bfloat16>(args);
  }
}

void where(const kernel::WhereArgs& args) {
  if (args.n == 0) return;
  SINEW_DISPATCH_ALL_AND_BF16(args.dtype, "where", run_where<T>(args));
}

void cast(const kernel::CastArgs& args) {
  if (args.n == 0) return;
  SINEW_DISPATCH_ALL_AND_BF16(args.from, "cast", {
    using From = T;
    SINEW_DISPATCH_ALL_AND_BF16(args.to, "cast", (run_cast<From, T>(args)));
  });
}

void strided_copy(const kernel::StridedCopyArgs& args) {
  // Outermost first by y's stride: neighbouring threads then write neighbouring elements, whatever order of axes the
  // caller chose.
  int order[kMaxDims];
  for (int i = 0; i < args.ndim; ++i) {
    if (args.shape[i] == 0) return;
    order[i] = i;
  }
  std::stable_sort(order, order + args.ndim,
                   [&](int i, int k) { return std::abs(args.dst_stride[i]) > std::abs(args.dst_stride[k]); });
  Axes axes;
  for (int i = args.ndim - 1; i >= 0; --i)
    axes.add_outer(args.shape[order[i]], args.src_stride[order[i]], args.dst_stride[order[i]]);
  switch (size_of(args.dtype)) {
    case 1:
      return run_strided<uint8_t>(axes, args.x, args.y);
    case 2:
      return run_strided<uint16_t>(axes, args.x, args.y);
    case 4:
      return run_strided<uint32_t>(axes, args.x, args.y);
    case 8:
      return run_strided<uint64_t>(axes, args.x, args.y);
    default:
      SINEW_FAIL("strided_copy", "no kernel for ", to_string(args.dtype));
  }
}

}  // namespace sinew::cuda::SINEW_CUDA_NS
