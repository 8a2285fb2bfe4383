// The optimizers' kernels: blocks against plain loops, one thread against several. Their formulas are tested where the
// papers' are, in tests/optim.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "core/cpu/cpu_info.h"
#include "core/kernel_api.h"
#include "core/ops.h"

namespace sinew {
namespace {

template <class T>
std::vector<T> random_values(int64_t n, uint32_t stream) {
  const RngKey key{11, static_cast<uint32_t>(RngPurpose::test), stream, 0};
  return random_uniform({n}, -1, 1, key, dtype_of<T>).template to_vector<T>();
}

template <class T>
void check_block_mean(int64_t outer, int64_t length, int64_t inner, int64_t block, bool absolute) {
  const std::vector<T> x = random_values<T>(outer * length * inner, 1);
  std::vector<T> y = x;
  cpu_kernels().block_mean({dtype_of<T>, outer, length, inner, block, absolute, y.data()});
  for (int64_t o = 0; o < outer; ++o)
    for (int64_t k = 0; k < length; ++k)
      for (int64_t i = 0; i < inner; ++i) {
        const int64_t begin = k / block * block, end = std::min(length, begin + block);
        double sum = 0;
        for (int64_t j = begin; j < end; ++j) {
          const double v = static_cast<double>(x[static_cast<size_t>((o * length + j) * inner + i)]);
          sum += absolute ? std::abs(v) : v;
        }
        ASSERT_NEAR(static_cast<double>(y[static_cast<size_t>((o * length + k) * inner + i)]),
                    sum / static_cast<double>(end - begin), sizeof(T) == 4 ? 1e-6 : 1e-15)
            << outer << " " << length << " " << inner << " " << block << " at " << o << " " << k << " " << i;
      }
}

TEST(OptimKernels, BlockMeansAreThoseOfAPlainLoop) {
  for (bool absolute : {true, false}) {
    check_block_mean<double>(5, 9, 130, 9, absolute);  // a filter
    check_block_mean<double>(7, 23, 1, 4, absolute);   // rows of a matrix, with a short last block
    check_block_mean<double>(3, 5, 64, 99, absolute);  // a block longer than the row
    check_block_mean<float>(300, 9, 65, 9, absolute);  // enough for several threads
    check_block_mean<float>(1, 40000, 1, 7, absolute);
  }
}

// Every rule on enough elements for a parallel region.
TEST(OptimKernels, ResultsDoNotDependOnTheNumberOfThreads) {
  const int64_t n = 100003;
  const int threads = num_threads();
  std::vector<std::vector<float>> results;
  for (int t : {1, 3}) {
    set_num_threads(t);
    std::vector<float> x = random_values<float>(n, 1), m = random_values<float>(n, 3), v = random_values<float>(n, 4);
    const std::vector<float> g = random_values<float>(n, 2), d = random_values<float>(n, 5);
    for (float& value : v) value = std::abs(value);
    const kernel::UpdateFrame frame{.dtype = DType::f32,
                                    .n = n,
                                    .x = x.data(),
                                    .g = g.data(),
                                    .grad_scale = 0.5,
                                    .weight_decay = 0.1,
                                    .decoupled = 0.01,
                                    .x_scale = -0.1};
    const KernelTable& k = cpu_kernels();
    k.sgd({frame, m.data(), 0.9, 1, true});
    k.adam({frame, m.data(), v.data(), 0.9, 0.99, 2, 3, 1e-3});
    for (double power : {1.0, 0.5, 0.3})
      for (const float* diagonal : {d.data(), static_cast<const float*>(nullptr)})
        k.adahessian({frame, m.data(), v.data(), diagonal, 0.9, 0.99, 2, 3, power, 1e-3});
    k.sophia({frame, m.data(), v.data(), d.data(), 0.9, 0.99, 2, 0.1, 1e-3});
    k.sophia({frame, m.data(), v.data(), nullptr, 0.9, 0.99, 2, 0.1, 1e-3});
    k.lion({frame, m.data(), 0.9, 0.99});
    for (const std::vector<float>* values : {&x, &m, &v}) {
      results.push_back(*values);
      for (float value : *values) ASSERT_TRUE(std::isfinite(value));
    }
  }
  set_num_threads(threads);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(results[i], results[i + 3]) << i;
}

}  // namespace
}  // namespace sinew
