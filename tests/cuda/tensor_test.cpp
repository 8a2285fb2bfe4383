// Which lane holds which element in the tensor instructions, after the tables of the PTX manual ("Matrix fragments for
// mma.m16n8k8", "... m16n8k16", "ldmatrix"): one element of A or B at a time, so that no two mistakes cancel. Also the
// rounding to TF32.
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "cuda/entries.h"
#include "cuda/kernels/matrix.h"
#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

// Row and column of element i of a lane's part; a register holds one element (TF32) or two (bf16, the first one low).
struct Place {
  int row, column;
};
Place place_a_tf32(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {i == 0 || i == 2 ? group : group + 8, i == 0 || i == 1 ? in_group : in_group + 4};
}
Place place_b_tf32(int lane, int i) { return {i == 0 ? lane % 4 : lane % 4 + 4, lane >> 2}; }
Place place_a_bf16(int lane, int i) {
  const int group = lane >> 2, in_group = lane % 4;
  return {(i >= 0 && i < 2) || (i >= 4 && i < 6) ? group : group + 8,
          i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8};
}
Place place_b_bf16(int lane, int i) {
  const int in_group = lane % 4;
  return {i < 2 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8, lane >> 2};
}
Place place_d(int lane, int i) { return {i < 2 ? lane >> 2 : (lane >> 2) + 8, lane % 4 * 2 + (i & 1)}; }

// Small integers are exact in both formats.
struct Format {
  bool bf16;
  int depth() const { return bf16 ? 16 : 8; }
  int packed() const { return bf16 ? 2 : 1; }
  Place a(int lane, int i) const { return bf16 ? place_a_bf16(lane, i) : place_a_tf32(lane, i); }
  Place b(int lane, int i) const { return bf16 ? place_b_bf16(lane, i) : place_b_tf32(lane, i); }

  void put(std::vector<uint32_t>& registers, int at, float value) const {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    uint32_t& word = registers[static_cast<size_t>(at / packed())];
    word |= !bf16 ? bits : at % 2 == 0 ? bits >> 16 : bits;
  }
};

using Matrix = std::vector<std::vector<float>>;
Matrix zeros(int rows, int columns) {
  return Matrix(static_cast<size_t>(rows), std::vector<float>(static_cast<size_t>(columns), 0.0f));
}
float& at(Matrix& m, int row, int column) { return m[static_cast<size_t>(row)][static_cast<size_t>(column)]; }

// d + a b by the instruction.
Matrix multiply(const Format& f, Matrix a, Matrix b, Matrix d) {
  std::vector<uint32_t> ra(128, 0), rb(64, 0);
  std::vector<float> rd(128);
  for (int lane = 0; lane < 32; ++lane) {
    for (int i = 0; i < 4 * f.packed(); ++i)
      f.put(ra, lane * 4 * f.packed() + i, at(a, f.a(lane, i).row, f.a(lane, i).column));
    for (int i = 0; i < 2 * f.packed(); ++i)
      f.put(rb, lane * 2 * f.packed() + i, at(b, f.b(lane, i).row, f.b(lane, i).column));
    for (int i = 0; i < 4; ++i)
      rd[static_cast<size_t>(lane * 4 + i)] = at(d, place_d(lane, i).row, place_d(lane, i).column);
  }
  const DeviceArray<uint32_t> pa(ra), pb(rb);
  const DeviceArray<float> pd(rd);
  cuda::launch(cuda::mma_probe_kernel(f.bf16), {1}, {32}, 0, cuda::stream(), pa.data(), pb.data(), pd.data());
  const std::vector<float> got = pd.read();
  Matrix result = zeros(16, 8);
  for (int lane = 0; lane < 32; ++lane)
    for (int i = 0; i < 4; ++i)
      at(result, place_d(lane, i).row, place_d(lane, i).column) = got[static_cast<size_t>(lane * 4 + i)];
  return result;
}

// A single 1 in A picks a row of B, a single 1 in B a column of A; all other elements differ from each other.
void check_format(const Format& f) {
  Matrix a = zeros(16, f.depth()), b = zeros(f.depth(), 8), d = zeros(16, 8);
  for (int k = 0; k < f.depth(); ++k) {
    for (int m = 0; m < 16; ++m) at(a, m, k) = static_cast<float>(1 + m * f.depth() + k);
    for (int n = 0; n < 8; ++n) at(b, k, n) = static_cast<float>(1 + k * 8 + n);
  }
  for (int m = 0; m < 16; ++m)
    for (int n = 0; n < 8; ++n) at(d, m, n) = static_cast<float>(1000 * (1 + m * 8 + n));
  for (int k = 0; k < f.depth(); ++k) {
    for (int row = 0; row < 16; ++row) {
      Matrix one = zeros(16, f.depth()), want = d;
      at(one, row, k) = 1;
      for (int n = 0; n < 8; ++n) at(want, row, n) += at(b, k, n);
      ASSERT_EQ(multiply(f, one, b, d), want) << "A (" << row << ", " << k << ")";
    }
    for (int column = 0; column < 8; ++column) {
      Matrix one = zeros(f.depth(), 8), want = d;
      at(one, k, column) = 1;
      for (int m = 0; m < 16; ++m) at(want, m, column) += at(a, m, k);
      ASSERT_EQ(multiply(f, a, one, d), want) << "B (" << k << ", " << column << ")";
    }
  }
}

TEST(CudaTensor, MmaTf32HoldsTheManualsElements) {
  SINEW_NEEDS_CUDA();
  check_format({false});
}

TEST(CudaTensor, MmaBf16HoldsTheManualsElements) {
  SINEW_NEEDS_CUDA();
  check_format({true});
}

// Thread l gets of matrix j row l / 4, elements 2 (l % 4) and the next; rows of matrix j come from threads 8 j to 8 j
// + 7.
TEST(CudaTensor, LoadMatricesHoldsTheManualsElements) {
  SINEW_NEEDS_CUDA();
  std::vector<uint32_t> words(128);
  for (uint32_t i = 0; i < 128; ++i) words[i] = 1000 + i;
  in_all_orders([&] {
    const DeviceArray<uint32_t> from(words), to(128);
    cuda::launch(cuda::load_matrices_probe_kernel(false), {1}, {32}, 0, cuda::stream(), from.data(), to.data());
    const std::vector<uint32_t> got = to.read();
    for (size_t lane = 0; lane < 32; ++lane)
      for (size_t j = 0; j < 4; ++j)
        ASSERT_EQ(got[lane * 4 + j], words[(8 * j + (lane >> 2)) * 4 + lane % 4])
            << "lane " << lane << ", matrix " << j;
  });
}

// Transposed: rows 2 (l % 4) and the next of column l / 4 of matrix j.
TEST(CudaTensor, LoadMatricesTransposedHoldsTheManualsElements) {
  SINEW_NEEDS_CUDA();
  std::vector<uint16_t> elements(256);
  for (uint16_t i = 0; i < 256; ++i) elements[i] = static_cast<uint16_t>(1000 + i);
  std::vector<uint32_t> words(128);
  for (size_t i = 0; i < 128; ++i) words[i] = elements[2 * i] | static_cast<uint32_t>(elements[2 * i + 1]) << 16;
  in_all_orders([&] {
    const DeviceArray<uint32_t> from(words), to(128);
    cuda::launch(cuda::load_matrices_probe_kernel(true), {1}, {32}, 0, cuda::stream(), from.data(), to.data());
    const std::vector<uint32_t> got = to.read();
    for (size_t lane = 0; lane < 32; ++lane)
      for (size_t j = 0; j < 4; ++j)
        for (size_t e = 0; e < 2; ++e)
          ASSERT_EQ(got[lane * 4 + j] >> (16 * e) & 0xffffu, elements[(8 * j + 2 * (lane % 4) + e) * 8 + (lane >> 2)])
              << "lane " << lane << ", matrix " << j;
  });
}

// wgmma: operands as images of shared memory, in rows of 128 bytes whose groups of 16 bytes lie at (group ^ row % 8)
// ("Swizzling modes", "Strides" of the manual's matrix descriptors); d after "Register fragments, D, m64nNk16".
class WgmmaProbe {
 public:
  WgmmaProbe(bool transposed_a, bool transposed_b, bool tf32) : transposed_{transposed_a, transposed_b}, tf32_(tf32) {}
  int depth() const { return tf32_ ? 8 : 16; }
  // (64, depth) times (depth, 64); rows of b are its columns.
  Matrix multiply(Matrix a, Matrix b) const {
    const DeviceArray<uint16_t> at_a(image(a, transposed_[0])), at_b(image(b, transposed_[1]));
    const DeviceArray<float> at_d(64 * 64);
    cuda::launch(tf32_ ? cuda::wgmma_tf32_probe_kernel() : cuda::wgmma_probe_kernel(transposed_[0], transposed_[1]),
                 {1}, {128}, 2 * 8192, cuda::stream(), at_a.data(), at_b.data(), at_d.data());
    const std::vector<float> got = at_d.read();
    Matrix d = zeros(64, 64);
    for (int thread = 0; thread < 128; ++thread)
      for (int i = 0; i < 32; ++i) {
        const int warp = thread / 32, lane = thread % 32;
        at(d, 16 * warp + (lane >> 2) + 8 * (i / 2 % 2), 8 * (i / 4) + 2 * (lane % 4) + (i & 1)) =
            got[static_cast<size_t>(thread * 32 + i)];
      }
    return d;
  }

 private:
  std::vector<uint16_t> image(Matrix& m, bool transposed) const {
    std::vector<uint16_t> halves(4096, 0x7fc0);  // NaN where nothing may be read
    for (int x = 0; x < 64; ++x)
      for (int k = 0; k < depth(); ++k) {
        const int row = transposed ? k : x, byte = (transposed ? x : k) * (tf32_ ? 4 : 2);
        const auto to = static_cast<size_t>(row * 64 + (byte / 16 ^ row % 8) * 8 + byte % 16 / 2);
        const uint32_t bits = std::bit_cast<uint32_t>(at(m, x, k));
        halves[to] = static_cast<uint16_t>(tf32_ ? bits : bits >> 16);
        if (tf32_) halves[to + 1] = static_cast<uint16_t>(bits >> 16);
      }
    return halves;
  }
  bool transposed_[2], tf32_;
};

void check_wgmma(bool transposed_a, bool transposed_b, bool tf32) {
  SCOPED_TRACE(::testing::Message() << "transposed " << transposed_a << transposed_b << " tf32 " << tf32);
  const WgmmaProbe probe(transposed_a, transposed_b, tf32);
  Matrix all = zeros(64, probe.depth());  // small integers, all different in a column and in a row
  for (int x = 0; x < 64; ++x)
    for (int k = 0; k < probe.depth(); ++k) at(all, x, k) = static_cast<float>(1 + (x * 3 + k * 5) % 251);
  for (const int x : {0, 5, 7, 8, 15, 16, 33, 63})
    for (int k = 0; k < probe.depth(); k += x == 5 ? 1 : 5) {
      Matrix one = zeros(64, probe.depth()), row = zeros(64, 64), column = zeros(64, 64);
      at(one, x, k) = 1;
      for (int i = 0; i < 64; ++i) at(row, x, i) = at(column, i, x) = at(all, i, k);
      ASSERT_EQ(probe.multiply(one, all), row) << "A (" << x << ", " << k << ")";
      ASSERT_EQ(probe.multiply(all, one), column) << "B (" << x << ", " << k << ")";
    }
}

TEST(CudaTensor, WgmmaHoldsTheManualsElements) {
  SINEW_NEEDS_CUDA();
  if (cuda::wgmma_use() == cuda::WgmmaUse::never) GTEST_SKIP() << "wgmma is of sm_90a";
  for (const bool transposed_a : {false, true})
    for (const bool transposed_b : {false, true}) check_wgmma(transposed_a, transposed_b, false);
}

TEST(CudaTensor, WgmmaTf32HoldsTheManualsElements) {
  SINEW_NEEDS_CUDA();
  if (cuda::wgmma_use() == cuda::WgmmaUse::never) GTEST_SKIP() << "wgmma is of sm_90a";
  check_wgmma(false, false, true);
}

// Boxes of tensors, after the tables of "Swizzling modes": where the groups of 16 bytes of a box, in the order of its
// rows, lie in lines of 128 bytes of shared memory. A line of the table says which group of that line is at its places.
constexpr int kPlaces[8][8] = {{0, 1, 2, 3, 4, 5, 6, 7}, {1, 0, 3, 2, 5, 4, 7, 6}, {2, 3, 0, 1, 6, 7, 4, 5},
                               {3, 2, 1, 0, 7, 6, 5, 4}, {4, 5, 6, 7, 0, 1, 2, 3}, {5, 4, 7, 6, 1, 0, 3, 2},
                               {6, 7, 4, 5, 2, 3, 0, 1}, {7, 6, 5, 4, 3, 2, 1, 0}};

// Tensor (planes, rows, columns) of 16-bit elements, all different and none 0, in rows of `pitch`.
struct Boxes {
  int columns = 203, rows = 40, planes = 2, pitch = 208;
  int box_rows = 24, swizzle = 128, dense_bytes = 96;
  int row_bytes() const { return swizzle == 0 ? dense_bytes : swizzle; }
  int bytes() const { return row_bytes() * box_rows; }
  uint16_t value(int z, int y, int x) const {
    if (z < 0 || y < 0 || x < 0 || z >= planes || y >= rows || x >= columns) return 0;
    return static_cast<uint16_t>(1 + (z * rows + y) * columns + x);
  }
  // The box from there on.
  std::vector<uint16_t> image(int rank, int x, int y, int z) const {
    const auto elements = static_cast<size_t>(planes * rows * pitch);
    std::vector<uint16_t> tensor(elements, 0xffff);  // between the rows, where nothing may be read
    for (int p = 0; p < planes; ++p)
      for (int i = 0; i < rows; ++i)
        for (int j = 0; j < columns; ++j) tensor[static_cast<size_t>((p * rows + i) * pitch + j)] = value(p, i, j);
    const DeviceArray<uint16_t> data(tensor);
    const DeviceArray<uint32_t> out(static_cast<size_t>(bytes() / 4));
    const cuda::TensorMap map = cuda::make_tensor_map({data.data(),
                                                       2,
                                                       rank,
                                                       {columns, rows, planes},
                                                       {0, pitch * 2, rows * pitch * 2},
                                                       {row_bytes() / 2, box_rows, 1},
                                                       swizzle});
    cuda::launch(cuda::load_box_probe_kernel(), {1}, {32}, static_cast<size_t>(bytes()) + 8, cuda::stream(), map, rank,
                 x, y, z, bytes(), out.data());
    const std::vector<uint32_t> words = out.read();
    std::vector<uint16_t> got;
    for (const uint32_t word : words) {
      got.push_back(static_cast<uint16_t>(word));
      got.push_back(static_cast<uint16_t>(word >> 16));
    }
    return got;
  }
  std::vector<uint16_t> expected(int x, int y, int z) const {
    std::vector<uint16_t> want;
    const int lines = swizzle / 16;  // until the pattern begins again
    for (int place = 0; place < bytes() / 16; ++place) {
      const int line = place / 8, group = line * 8 + kPlaces[lines == 0 ? 0 : line % lines][place % 8];
      for (int e = 0; e < 8; ++e) {
        const int at = group * 8 + e, columns_of_box = row_bytes() / 2;
        want.push_back(value(z, y + at / columns_of_box, x + at % columns_of_box));
      }
    }
    return want;
  }
};

// Inside, over each edge, outside. An error of the device names no case by itself.
void check_boxes(const Boxes& boxes) {
  const auto check = [&](int rank, int x, int y, int z) {
    SCOPED_TRACE(::testing::Message() << "swizzle " << boxes.swizzle << ", rows of " << boxes.row_bytes()
                                      << " bytes, rank " << rank << ", at " << x << ", " << y << ", " << z);
    try {
      ASSERT_EQ(boxes.image(rank, x, y, z), boxes.expected(x, y, z));
    } catch (const Error& error) {
      FAIL() << error.what();
    }
  };
  for (const auto& [x, y] : {std::pair{0, 0}, {16, 7}, {-8, 2}, {184, 3}, {8, -5}, {16, 30}, {192, 39}, {400, 0}})
    check(2, x, y, 0);
  for (const int z : {0, 1, 2, -1}) check(3, 8, 20, z);
}

// Tests of their own: an error of the device ends the process's work on it.
TEST(CudaBulkCopies, BoxesLieAsTheManualSays) {
  SINEW_NEEDS_CUDA();
  if (cuda::wgmma_use() == cuda::WgmmaUse::never) GTEST_SKIP() << "bulk copies are of sm_90";
  for (const int swizzle : {32, 64, 128}) check_boxes({.swizzle = swizzle});
}
TEST(CudaBulkCopies, DenseBoxesLieAsTheManualSays) {
  SINEW_NEEDS_CUDA();
  if (cuda::wgmma_use() == cuda::WgmmaUse::never) GTEST_SKIP() << "bulk copies are of sm_90";
  for (const int bytes : {64, 128, 96}) check_boxes({.swizzle = 0, .dense_bytes = bytes});
}

// Boxes of pixels: of images (n, h, w, c), by the definition of a convolution with unequal paddings and taps.
TEST(CudaBulkCopies, PixelsUnderATapComeOneBehindTheOther) {
  SINEW_NEEDS_CUDA();
  if (cuda::wgmma_use() == cuda::WgmmaUse::never) GTEST_SKIP() << "bulk copies are of sm_90";
  constexpr int kN = 3, kH = 5, kW = 7, kC = 72, kPadH = 1, kPadW = 2, kTapsH = 4, kTapsW = 3;
  constexpr int kP = kH + 2 * kPadH - kTapsH + 1, kQ = kW + 2 * kPadW - kTapsW + 1, kPixels = 40, kChannels = 64;
  std::vector<uint16_t> x(size_t{kN} * kH * kW * kC);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<uint16_t>(1 + i);
  const DeviceArray<uint16_t> data(x);
  const cuda::TensorMap map = cuda::make_pixel_map({.data = data.data(),
                                                    .n = kN,
                                                    .h = kH,
                                                    .w = kW,
                                                    .c = kC,
                                                    .first_h = -kPadH,
                                                    .first_w = -kPadW,
                                                    .end_h = kPadH - kTapsH + 1,
                                                    .end_w = kPadW - kTapsW + 1,
                                                    .pixels = kPixels});
  constexpr int kBytes = kPixels * kChannels * 2;
  const DeviceArray<uint32_t> out(kBytes / 4);
  for (const int c : {0, 64})
    for (const int number : {0, 9, 40, kN * kP * kQ - 3})
      for (const auto& [tap_h, tap_w] : {std::pair{0, 0}, {3, 1}, {1, 2}}) {
        SCOPED_TRACE(::testing::Message()
                     << "channel " << c << ", pixel " << number << ", tap " << tap_h << ", " << tap_w);
        const int row = number / kQ;
        const cuda::PixelsProbe at{c, number % kQ - kPadW, row % kP - kPadH, row / kP, tap_w, tap_h};
        try {
          cuda::launch(cuda::load_pixels_probe_kernel(), {1}, {32}, size_t{kBytes} + 8, cuda::stream(), map, at, kBytes,
                       out.data());
          const std::vector<uint32_t> words = out.read();
          for (int i = 0; i < kPixels; ++i)
            for (int k = 0; k < kChannels; ++k) {
              const int pixel = number + i, h = pixel / kQ % kP - kPadH + tap_h, w = pixel % kQ - kPadW + tap_w;
              const bool there = pixel < kN * kP * kQ && h >= 0 && h < kH && w >= 0 && w < kW && c + k < kC;
              const int want = there ? 1 + ((pixel / (kP * kQ) * kH + h) * kW + w) * kC + c + k : 0;
              const int place = i * 8 + kPlaces[i % 8][k / 8];
              const uint32_t word = words[static_cast<size_t>(place * 4 + k % 8 / 2)];
              ASSERT_EQ(static_cast<int>(k % 2 == 0 ? word & 0xffff : word >> 16), want) << i << ", " << k;
            }
        } catch (const Error& error) {
          FAIL() << error.what();
        }
      }
}

TEST(CudaTensor, RoundingToTf32) {
  SINEW_NEEDS_CUDA();
  const float inf = std::numeric_limits<float>::infinity();
  const float step = std::ldexp(1.0f, -10);  // from 1 to the next
  const std::vector<float> x = {0.0f,          -0.0f, 1.0f, 1 + step / 2, 1 + step / 4, 1 + 0.75f * step,
                                -1 - step / 2, inf,   -inf, std::nanf("")};
  const std::vector<float> want = {0.0f, -0.0f, 1.0f, 1 + step, 1.0f, 1 + step, -1 - step, inf, -inf};
  const DeviceArray<float> in(x);
  const DeviceArray<uint32_t> out(x.size());
  cuda::launch(cuda::tf32_probe_kernel(), {1}, {32}, 0, cuda::stream(), static_cast<int>(x.size()), in.data(),
               out.data());
  const std::vector<uint32_t> got = out.read();
  for (size_t i = 0; i < want.size(); ++i)  // the instruction leaves the low 13 bits open
    EXPECT_EQ(got[i] & ~0x1fffu, std::bit_cast<uint32_t>(want[i])) << x[i];
  EXPECT_TRUE(std::isnan(std::bit_cast<float>(got.back() & ~0x1fffu)));
}

}  // namespace
}  // namespace sinew::testing
