#include <cmath>
#include <limits>

#include "cuda/kernels/matrix.h"
#include "tests/cuda/support.h"
#include "tests/support/conv_definition.h"

namespace sinew::testing {
namespace {

struct Case {
  int64_t n, h, w, c, k, r, s;
  int64_t stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0;
  size_t offset = 0;    // of every pointer, in elements
  bool coarse = false;  // factors are multiples of 1/256, which TF32 holds exactly
};

std::ostream& operator<<(std::ostream& out, const Case& c) {
  return out << c.n << "x" << c.h << "x" << c.w << "x" << c.c << " filters " << c.k << "x" << c.r << "x" << c.s
             << " stride " << c.stride_h << "," << c.stride_w << " pad " << c.pad_h << "," << c.pad_w << " offset "
             << c.offset;
}

kernel::ConvArgs args_of(const Case& c, DType dtype) {
  kernel::ConvArgs a{};
  a.dtype = dtype;
  a.n = c.n, a.h = c.h, a.w = c.w, a.c = c.c, a.k = c.k, a.r = c.r, a.s = c.s;
  a.stride_h = c.stride_h, a.stride_w = c.stride_w, a.pad_h = c.pad_h, a.pad_w = c.pad_w;
  a.p = (c.h + 2 * c.pad_h - c.r) / c.stride_h + 1;
  a.q = (c.w + 2 * c.pad_w - c.s) / c.stride_w + 1;
  return a;
}

// A sum, the sum of its terms' sizes for the tolerance, and how many they are.
struct Sum {
  double value = 0, size = 0, terms = 0;
  void add(double term) {
    value += term;
    size += std::abs(term);
    ++terms;
  }
};

template <class T>
void expect_near(const char* what, const std::vector<T>& got, const std::vector<Sum>& want) {
  const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), want[i].value, epsilon * (want[i].size + 1) * std::sqrt(want[i].terms + 1))
        << what << ", element " << i;
}

enum class Which : uint8_t { all, forward, backward };

template <class T>
void check_case(const Case& c, Which which = Which::all) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << " " << c);
  kernel::ConvArgs a = args_of(c, dtype_of<T>);
  auto x = random_values<T>(static_cast<size_t>(a.n * a.h * a.w * a.c), -1, 1, 1);
  auto filter = random_values<T>(static_cast<size_t>(a.k * a.r * a.s * a.c), -1, 1, 2);
  auto y = random_values<T>(static_cast<size_t>(a.n * a.p * a.q * a.k), -1, 1, 3);
  if (c.coarse)
    for (std::vector<T>* values : {&x, &filter, &y})
      for (T& value : *values) value = std::round(value * 256) / 256;
  const auto bias = random_values<T>(static_cast<size_t>(a.k), -1, 1, 4);
  std::vector<Sum> forward(y.size()), dx(x.size()), dw(filter.size());
  for_every_conv_product(a, [&](size_t i, size_t f, size_t o) {
    if (which != Which::backward) forward[o].add(static_cast<double>(x[i]) * static_cast<double>(filter[f]));
    if (which == Which::forward) return;
    dx[i].add(static_cast<double>(y[o]) * static_cast<double>(filter[f]));
    dw[f].add(static_cast<double>(y[o]) * static_cast<double>(x[i]));
  });

  const DeviceArray<T> at_x(x, c.offset), at_filter(filter, c.offset), at_y(y, c.offset), at_bias(bias, c.offset);
  a.x = at_x.data(), a.filter = at_filter.data(), a.y = at_y.data();
  const auto run = [&](void (*entry)(const kernel::ConvArgs&), size_t elements) {
    const DeviceArray<T> out(elements, c.offset);
    a.out = out.data();
    entry(a);
    return out.read();
  };
  if (which == Which::all) expect_near("forward", run(device().conv_forward, y.size()), forward);
  if (which != Which::forward) expect_near("dx", run(device().conv_dx, x.size()), dx);
  if (which != Which::forward) expect_near("dw", run(device().conv_dw, filter.size()), dw);

  const auto expect_accumulates = [&](const char* what, void (*entry)(const kernel::ConvArgs&), size_t elements) {
    const std::vector<T> plain = run(entry, elements), before = random_values<T>(elements, -1, 1, 5);
    const DeviceArray<T> sum(before, c.offset);
    a.out = sum.data(), a.accumulate = true;
    entry(a);
    a.accumulate = false;
    const std::vector<T> got = sum.read();
    for (size_t i = 0; i < elements; ++i) ASSERT_EQ(got[i], before[i] + plain[i]) << what << ", element " << i;
  };
  if (which != Which::backward) expect_accumulates("forward", device().conv_forward, y.size());
  if (which != Which::forward) expect_accumulates("dx", device().conv_dx, x.size());

  if (which == Which::backward) return;

  a.bias = at_bias.data();
  for (size_t i = 0; i < forward.size(); ++i) forward[i].add(static_cast<double>(bias[i % static_cast<size_t>(a.k)]));
  if (which == Which::all) expect_near("bias", run(device().conv_forward, y.size()), forward);
  a.act = Activation::relu;
  for (Sum& sum : forward) sum.value = std::max(sum.value, 0.0);
  expect_near("bias and relu", run(device().conv_forward, y.size()), forward);
}

TEST(CudaConv, KernelsStridesAndPadding) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c :
         {Case{2, 6, 5, 4, 8, 3, 3, 1, 1, 1, 1}, Case{1, 7, 9, 4, 4, 3, 3, 2, 2, 1, 1}, Case{2, 5, 6, 8, 4, 1, 1},
          Case{1, 6, 6, 4, 4, 1, 1, 2, 2}, Case{1, 8, 7, 4, 4, 5, 2, 3, 2, 2, 0}, Case{1, 4, 9, 4, 4, 2, 3, 1, 3, 1, 2},
          Case{3, 4, 4, 12, 20, 3, 3, 2, 2, 1, 1}}) {
      check_case<float>(c);
      check_case<double>(c);
    }
  });
}

// Neither channels nor filters are multiples of 16 bytes, or nothing is aligned.
TEST(CudaConv, OddChannelsAndUnalignedPointers) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : {Case{2, 6, 5, 3, 16, 3, 3, 1, 1, 1, 1}, Case{2, 7, 7, 1, 6, 5, 5, 1, 1, 2, 2},
                          Case{1, 6, 6, 5, 7, 3, 3, 2, 2, 1, 1}, Case{1, 5, 5, 4, 6, 3, 3, 1, 1, 1, 1},
                          Case{1, 5, 5, 6, 4, 3, 3, 1, 1, 1, 1}, Case{1, 5, 6, 4, 4, 3, 3, 2, 2, 1, 1, 1}}) {
      check_case<float>(c);
      check_case<double>(c);
    }
  });
}

TEST(CudaConv, ExtentsOfOneAndStridesBeyondTheKernel) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c :
         {Case{1, 1, 1, 1, 1, 1, 1}, Case{3, 1, 1, 4, 4, 3, 3, 1, 1, 1, 1}, Case{2, 9, 1, 4, 4, 2, 1, 5, 1},
          Case{1, 11, 12, 4, 4, 2, 2, 5, 5, 1, 1}, Case{40, 2, 2, 4, 4, 3, 3, 1, 1, 1, 1}, Case{1, 3, 3, 4, 4, 3, 3},
          Case{1, 2, 3, 4, 4, 2, 2, 4, 4, 2, 2}})
      check_case<float>(c);
    check_case<double>({1, 11, 12, 2, 2, 2, 2, 5, 5, 1, 1});
  });
}

// Ragged edges in both directions of every tile of conv.cu and conv_dw.cu: some need many pixels to be chosen.
TEST(CudaConv, NarrowTiles) {
  SINEW_NEEDS_CUDA();
  check_case<float>({1, 19, 7, 8, 36, 3, 3, 1, 1, 1, 1});   // 64 x 32; dw 64 x 64
  check_case<float>({3, 150, 151, 4, 4, 1, 1});             // 256 x 16; dw 16 x 64, chunks
  check_case<float>({3, 106, 107, 4, 20, 1, 1});            // 128 x 32
  check_case<float>({3, 150, 151, 1, 3, 1, 1});             // 256 x 16, element by element
  check_case<float>({1, 9, 8, 1, 35, 3, 3});                // 64 x 32, element by element
  check_case<double>({1, 19, 7, 8, 36, 3, 3, 1, 1, 1, 1});  // 64 x 32
  check_case<double>({1, 9, 8, 3, 35, 3, 3});               // element by element
}

TEST(CudaConv, WideTilesForward) {
  SINEW_NEEDS_CUDA();
  check_case<float>({1, 93, 93, 4, 68, 1, 1}, Which::forward);     // 128 x 128
  check_case<float>({1, 131, 130, 4, 132, 1, 1}, Which::forward);  // 128 x 128
  check_case<double>({1, 93, 93, 2, 66, 1, 1}, Which::forward);    // 64 x 32
}

TEST(CudaConv, WideTilesBackward) {
  SINEW_NEEDS_CUDA();
  check_case<float>({1, 93, 93, 68, 4, 1, 1}, Which::backward);     // 128 x 128
  check_case<float>({1, 131, 130, 132, 4, 1, 1}, Which::backward);  // 128 x 128
  check_case<float>({1, 9, 9, 8, 132, 3, 3}, Which::backward);      // dw 128 x 128
  check_case<float>({1, 9, 9, 4, 132, 3, 3}, Which::backward);      // dw 64 x 64, by its few columns
  check_case<double>({1, 93, 93, 66, 2, 1, 1}, Which::backward);    // 64 x 32
  check_case<double>({1, 9, 9, 2, 66, 3, 3}, Which::backward);      // dw 64 x 64
}

using cuda::ConvChoice;
using cuda::ConvTile;

// How work is dealt out, instead of what is best for the shape.
struct Forced {
  explicit Forced(const ConvChoice& choice) : before(cuda::conv_choice()) { cuda::set_conv_choice(choice); }
  ~Forced() { cuda::set_conv_choice(before); }
  Forced(const Forced&) = delete;
  Forced& operator=(const Forced&) = delete;
  const ConvChoice before;
};

// Blocks that make whole tiles, every tile, with ragged edges.
TEST(CudaConv, WholeTiles) {
  SINEW_NEEDS_CUDA();
  for (const ConvTile tile :
       {ConvTile::large, ConvTile::tall, ConvTile::square, ConvTile::middle, ConvTile::low, ConvTile::narrow})
    for (const bool edges : {false, true}) {
      SCOPED_TRACE(::testing::Message() << static_cast<int>(tile) << ", edges " << edges);
      const Forced forced({true, tile, 0, edges});
      check_case<float>({2, 9, 16, 12, 132, 1, 3, 1, 1, 0, 1}, Which::forward);
      check_case<float>({2, 9, 16, 132, 12, 1, 3, 1, 1, 0, 1}, Which::backward);
      check_case<double>({1, 9, 16, 4, 66, 3, 1, 1, 1, 1, 0});
    }
}

// Blocks that begin and end inside tiles, that have several, that have exactly one, and more than there are slices.
TEST(CudaConv, SharesOfTiles) {
  SINEW_NEEDS_CUDA();
  for (const int64_t blocks : {1, 2, 7, 27, 1000})
    for (const bool edges : {false, true}) {
      SCOPED_TRACE(::testing::Message() << blocks << " blocks, edges " << edges);
      const Forced forced({true, ConvTile::square, blocks, edges});
      check_case<float>({2, 6, 5, 12, 36, 3, 3, 1, 1, 1, 1});
      check_case<float>({2, 7, 9, 4, 4, 3, 3, 2, 2, 1, 1});
      check_case<float>({1, 8, 7, 4, 8, 5, 2, 3, 2, 2, 0});  // parts without taps
      check_case<double>({2, 6, 5, 6, 34, 3, 3, 1, 1, 1, 1});
    }
}

TEST(CudaConv, SharesInAllOrders) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    const Forced forced({true, ConvTile::square, 5, true});
    check_case<float>({1, 5, 6, 8, 36, 3, 3, 1, 1, 1, 1});
    check_case<float>({2, 5, 6, 5, 7, 3, 3, 2, 2, 1, 1});  // element by element
    check_case<double>({1, 4, 4, 4, 6, 3, 3, 1, 1, 1, 1, 1});
  });
}

// Every tile with ragged edges, some of them in shares.
TEST(CudaConv, TilesInShares) {
  SINEW_NEEDS_CUDA();
  for (const ConvTile tile :
       {ConvTile::large, ConvTile::tall, ConvTile::square, ConvTile::middle, ConvTile::low, ConvTile::narrow}) {
    SCOPED_TRACE(static_cast<int>(tile));
    const Forced forced({true, tile, 6, false});
    check_case<float>({2, 9, 16, 12, 132, 1, 3, 1, 1, 0, 1}, Which::forward);
    check_case<float>({2, 9, 16, 132, 12, 1, 3, 1, 1, 0, 1}, Which::backward);
    check_case<float>({1, 9, 9, 12, 132, 1, 3}, Which::backward);  // dw 128 x 128
    check_case<double>({1, 9, 16, 4, 66, 3, 1, 1, 1, 1, 0});
  }
}

// Every tap over the pixels it reaches: channels fill tiles, filters are ragged; taps that reach none.
TEST(CudaConv, FilterGradientsTapByTap) {
  SINEW_NEEDS_CUDA();
  for (const int64_t blocks : {1, 5, 23}) {
    const Forced square({true, ConvTile::square, blocks, true});
    check_case<float>({2, 4, 5, 64, 68, 3, 3, 1, 1, 1, 1}, Which::backward);
    check_case<float>({3, 5, 6, 64, 68, 3, 2, 2, 3, 1, 1}, Which::backward);
    check_case<float>({3, 1, 3, 64, 68, 3, 3, 1, 1, 1, 1}, Which::backward);
    check_case<double>({2, 3, 2, 64, 34, 3, 3, 1, 1, 1, 1}, Which::backward);
    const Forced large({true, ConvTile::large, blocks, true});
    check_case<float>({5, 2, 3, 128, 68, 3, 3, 1, 1, 1, 1}, Which::backward);
  }
}

// What the shape itself leads to, where there are few pixels and many channels.
TEST(CudaConv, FewPixelsManyChannels) {
  SINEW_NEEDS_CUDA();
  check_case<float>({5, 2, 2, 68, 72, 3, 3, 1, 1, 1, 1});
  check_case<double>({3, 3, 2, 34, 40, 3, 3, 1, 1, 1, 1});
}

TEST(CudaConv, DwHasTheSameBitsInEveryOrder) {
  SINEW_NEEDS_CUDA();
  kernel::ConvArgs a = args_of({4, 20, 20, 4, 8, 3, 3, 1, 1, 1, 1}, DType::f32);
  const DeviceArray<float> x(random_values<float>(4 * 20 * 20 * 4, -1, 1, 1));
  const DeviceArray<float> y(random_values<float>(4 * 20 * 20 * 8, -1, 1, 2));
  const DeviceArray<float> out(8 * 3 * 3 * 4);
  a.x = x.data(), a.y = y.data(), a.out = out.data();
  device().conv_dw(a);
  const std::vector<float> first = out.read();
  in_all_orders([&] {
    device().conv_dw(a);
    EXPECT_EQ(out.read(), first);
  });
}

TEST(CudaConv, SharesHaveTheSameBitsInEveryOrder) {
  SINEW_NEEDS_CUDA();
  const Forced forced({true, ConvTile::square, 7, true});
  kernel::ConvArgs a = args_of({2, 6, 5, 8, 12, 3, 3, 1, 1, 1, 1}, DType::f32);
  const DeviceArray<float> x(random_values<float>(2 * 6 * 5 * 8, -1, 1, 1));
  const DeviceArray<float> y(random_values<float>(2 * 6 * 5 * 12, -1, 1, 2));
  const DeviceArray<float> filter(random_values<float>(12 * 3 * 3 * 8, -1, 1, 3));
  const auto run = [&](void (*entry)(const kernel::ConvArgs&), size_t elements) {
    const DeviceArray<float> out(elements);
    a.x = x.data(), a.y = y.data(), a.filter = filter.data(), a.out = out.data();
    entry(a);
    return out.read();
  };
  const auto all = [&] {
    return std::vector{run(device().conv_forward, 2 * 6 * 5 * 12), run(device().conv_dx, 2 * 6 * 5 * 8),
                       run(device().conv_dw, 12 * 3 * 3 * 8)};
  };
  const auto first = all();
  in_all_orders([&] { EXPECT_EQ(all(), first); });
}

void check_tensor(Case c, Which which = Which::all) {
  c.coarse = true;
  cuda::set_matmul_precision(cuda::MatmulPrecision::tf32);
  check_case<float>(c, which);
  cuda::set_matmul_precision(cuda::MatmulPrecision::f32);
}

TEST(CudaConvTensor, KernelsStridesAndPadding) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : {Case{2, 6, 5, 4, 8, 3, 3, 1, 1, 1, 1}, Case{1, 7, 9, 4, 4, 3, 3, 2, 2, 1, 1},
                          Case{2, 5, 6, 8, 4, 1, 1}, Case{1, 6, 6, 4, 4, 1, 1, 2, 2},
                          Case{1, 8, 7, 4, 4, 5, 2, 3, 2, 2, 0}, Case{3, 4, 4, 12, 20, 3, 3, 2, 2, 1, 1},
                          Case{40, 2, 2, 4, 4, 3, 3, 1, 1, 1, 1}, Case{3, 1, 1, 4, 4, 3, 3, 1, 1, 1, 1}})
      check_tensor(c);
  });
}

// What does not allow accesses of 16 bytes goes to the ordinary units; only the forward pass takes 6 filters.
TEST(CudaConvTensor, OddChannelsAndUnalignedPointers) {
  SINEW_NEEDS_CUDA();
  check_tensor({2, 6, 5, 3, 16, 3, 3, 1, 1, 1, 1});
  check_tensor({1, 5, 5, 4, 6, 3, 3, 1, 1, 1, 1});
  check_tensor({1, 5, 6, 4, 4, 3, 3, 2, 2, 1, 1, 1});
}

// Ragged edges of every tile of conv_tensor.cu and conv_dw_tensor.cu.
TEST(CudaConvTensor, EveryTile) {
  SINEW_NEEDS_CUDA();
  check_tensor({1, 19, 7, 8, 36, 3, 3, 1, 1, 1, 1});                   // 64 x 32; dw 64 x 64
  check_tensor({1, 131, 131, 4, 20, 1, 1});                            // 128 x 32; dw 32 x 64, chunks
  check_tensor({1, 131, 131, 4, 36, 1, 1}, Which::forward);            // 128 x 64
  check_tensor({1, 131, 131, 36, 4, 1, 1}, Which::backward);           // 128 x 64
  check_tensor({1, 93, 93, 4, 132, 1, 1}, Which::forward);             // 128 x 128
  check_tensor({1, 93, 93, 132, 4, 1, 1}, Which::backward);            // 128 x 128
  check_tensor({1, 9, 9, 4, 132, 3, 3, 1, 1, 1, 1}, Which::backward);  // dw 128 x 128
  check_tensor({2, 4, 5, 64, 72, 3, 3, 1, 1, 1, 1});                   // sums in chunks
}

// The setting reaches the entries: factors that TF32 does not hold are rounded.
TEST(CudaConvTensor, FactorsAreRounded) {
  SINEW_NEEDS_CUDA();
  kernel::ConvArgs a = args_of({1, 1, 1, 4, 4, 1, 1}, DType::f32);
  const float fine = 1 + std::ldexp(1.0f, -12);  // rounds to 1
  const DeviceArray<float> x(std::vector<float>(4, fine)), filter(std::vector<float>(16, 1)), out(16);
  a.x = x.data(), a.filter = filter.data(), a.y = x.data(), a.out = out.data();
  for (const auto& [precision, factor] :
       {std::pair{cuda::MatmulPrecision::tf32, 1.0f}, {cuda::MatmulPrecision::f32, fine}}) {
    cuda::set_matmul_precision(precision);
    device().conv_forward(a);
    EXPECT_EQ(out.read()[0], 4 * factor);
    device().conv_dx(a);
    EXPECT_EQ(out.read()[0], 4 * factor);
    device().conv_dw(a);
    EXPECT_EQ(out.read()[0], factor * factor);
  }
}

}  // namespace
}  // namespace sinew::testing
