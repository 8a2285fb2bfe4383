#include <cmath>
#include <limits>

#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

struct Case {
  int64_t rows, cols;
  size_t offset = 0;  // of every pointer, in elements
};
// Every way to share out a row, ragged ends, rows that are not aligned, one row and one column.
constexpr Case kCases[] = {{1, 1},       {5, 10},   {40, 16}, {150, 3},  {600, 10},    {7, 37},   {3, 64, 1},
                           {9, 100},     {40, 65},  {3, 256}, {11, 700}, {2, 1024, 1}, {5, 1000}, {9, 60},
                           {300, 12, 1}, {257, 16}, {3, 512}, {3, 1028}, {2, 1029},    {2, 4096}, {1, 2052, 1}};

template <class T>
double tolerance() {
  return 64 * static_cast<double>(std::numeric_limits<T>::epsilon());
}

// log(sum exp) of a row and its maximum, in double.
template <class T>
double log_sum(const T* row, int64_t cols) {
  double maximum = -std::numeric_limits<double>::infinity(), sum = 0;
  for (int64_t c = 0; c < cols; ++c) maximum = std::max(maximum, static_cast<double>(row[c]));
  for (int64_t c = 0; c < cols; ++c) sum += std::exp(static_cast<double>(row[c]) - maximum);
  return maximum + std::log(sum);
}

template <class T>
std::vector<T> logits(const Case& c) {
  // Some far apart, so that a sum without its maximum taken off would overflow.
  std::vector<T> x = random_values<T>(static_cast<size_t>(c.rows * c.cols), -4, 4, 1);
  for (size_t i = 0; i < x.size(); i += 7) x[i] += static_cast<T>(i % 3 == 0 ? 200 : -200);
  return x;
}

template <class T>
std::vector<T> softmax_on_device(const Case& c, bool log, const std::vector<T>& x) {
  const DeviceArray<T> in(x, c.offset), out(x.size(), c.offset);
  device().softmax({dtype_of<T>, log, c.rows, c.cols, in.data(), out.data()});
  return out.read();
}

template <class T>
void check_softmax(const Case& c) {
  SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.cols << " " << to_string(dtype_of<T>));
  const std::vector<T> x = logits<T>(c);
  const std::vector<T> y = softmax_on_device(c, false, x), log_y = softmax_on_device(c, true, x);
  for (int64_t r = 0; r < c.rows; ++r) {
    const double lse = log_sum(&x[static_cast<size_t>(r * c.cols)], c.cols);
    for (int64_t i = r * c.cols; i < (r + 1) * c.cols; ++i) {
      const size_t at = static_cast<size_t>(i);
      const double want = static_cast<double>(x[at]) - lse;
      ASSERT_NEAR(static_cast<double>(y[at]), std::exp(want), tolerance<T>()) << "element " << i;
      ASSERT_NEAR(static_cast<double>(log_y[at]), want, tolerance<T>() * (1 + std::abs(want))) << "element " << i;
    }
  }
}

TEST(CudaSoftmax, EqualsTheDefinition) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : kCases) {
      check_softmax<float>(c);
      check_softmax<double>(c);
    }
  });
}

TEST(CudaSoftmax, EmptyArraysAreLeftAlone) {
  SINEW_NEEDS_CUDA();
  EXPECT_TRUE(softmax_on_device<float>({0, 5}, false, {}).empty());
  EXPECT_TRUE(softmax_on_device<float>({5, 0}, false, {}).empty());
}

// As the CPU has it: a NaN or a +infinity spoils its row, a -infinity counts nothing unless all are.
TEST(CudaSoftmax, NanAndInfinity) {
  SINEW_NEEDS_CUDA();
  const float nan = std::nanf(""), inf = std::numeric_limits<float>::infinity();
  for (const int64_t cols : {int64_t{10}, int64_t{40}, int64_t{100}, int64_t{1200}, int64_t{1203}}) {
    const size_t width = static_cast<size_t>(cols);
    std::vector<float> x(6 * width, 1.0f);
    x[3] = nan;
    x[width + width - 1] = inf;
    x[2 * width + 5] = -inf;
    for (size_t i = 0; i < width; ++i) x[3 * width + i] = -inf;
    for (size_t i = 0; i < width; ++i) x[4 * width + i] = i == 7 ? 2 : -inf;
    for (const bool log : {false, true}) {
      std::vector<float> want(x.size());
      cpu_kernels().softmax({DType::f32, log, 6, cols, x.data(), want.data()});
      in_all_orders([&] {
        const std::vector<float> got = softmax_on_device<float>({6, cols}, log, x);
        for (size_t i = 0; i < got.size(); ++i) {
          if (std::isfinite(want[i]))
            ASSERT_NEAR(got[i], want[i], 1e-5) << "element " << i << " of rows of " << cols;
          else
            ASSERT_TRUE(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])))
                << got[i] << " for " << want[i] << ", element " << i << " of rows of " << cols;
        }
      });
    }
  }
}

template <class T>
struct Entropy {
  std::vector<T> loss, dx;
};
enum class Wanted { loss, dx, both };

template <class T>
Entropy<T> entropy_on_device(const Case& c, const std::vector<T>& x, const std::vector<int64_t>& labels, Wanted wanted,
                             const T* scale = nullptr) {
  const DeviceArray<T> in(x, c.offset), dx(x.size(), c.offset), loss(1);
  const DeviceArray<T> factor(std::vector<T>{scale ? *scale : T(0)});
  const DeviceArray<int64_t> places(labels);
  device().cross_entropy({dtype_of<T>, c.rows, c.cols, in.data(), places.data(),
                          wanted == Wanted::dx ? nullptr : loss.data(), wanted == Wanted::loss ? nullptr : dx.data(),
                          scale ? factor.data() : nullptr});
  return {wanted == Wanted::dx ? std::vector<T>() : loss.read(), wanted == Wanted::loss ? std::vector<T>() : dx.read()};
}

std::vector<int64_t> labels_for(const Case& c) {
  std::vector<int64_t> labels(static_cast<size_t>(c.rows));
  for (size_t r = 0; r < labels.size(); ++r) labels[r] = static_cast<int64_t>(r * 37 + 2) % c.cols;
  return labels;
}

template <class T>
void check_entropy(const Case& c) {
  SCOPED_TRACE(::testing::Message() << c.rows << " x " << c.cols << " " << to_string(dtype_of<T>));
  const std::vector<T> x = logits<T>(c);
  const std::vector<int64_t> labels = labels_for(c);
  const T scale = T(-2.5);
  const Entropy<T> both = entropy_on_device(c, x, labels, Wanted::both);
  const Entropy<T> scaled = entropy_on_device(c, x, labels, Wanted::dx, &scale);
  double mean = 0, size = 0;
  for (int64_t r = 0; r < c.rows; ++r) {
    const int64_t label = labels[static_cast<size_t>(r)];
    const double lse = log_sum(&x[static_cast<size_t>(r * c.cols)], c.cols);
    const double loss = lse - static_cast<double>(x[static_cast<size_t>(r * c.cols + label)]);
    mean += loss / static_cast<double>(c.rows);
    size += (std::abs(lse) + std::abs(loss)) / static_cast<double>(c.rows);
    for (int64_t i = 0; i < c.cols; ++i) {
      const size_t at = static_cast<size_t>(r * c.cols + i);
      const double want =
          (std::exp(static_cast<double>(x[at]) - lse) - (i == label ? 1 : 0)) / static_cast<double>(c.rows);
      ASSERT_NEAR(static_cast<double>(both.dx[at]), want, tolerance<T>() / static_cast<double>(c.rows)) << at;
      ASSERT_NEAR(static_cast<double>(scaled.dx[at]), -2.5 * want, 3 * tolerance<T>() / static_cast<double>(c.rows));
    }
  }
  ASSERT_NEAR(static_cast<double>(both.loss[0]), mean, tolerance<T>() * (1 + size));
  EXPECT_EQ(entropy_on_device(c, x, labels, Wanted::loss).loss, both.loss);
}

TEST(CudaCrossEntropy, EqualsTheDefinition) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Case& c : kCases) {
      check_entropy<float>(c);
      check_entropy<double>(c);
    }
  });
}

// One block, and several with a second launch.
TEST(CudaCrossEntropy, TheMeanIsTheSameBitsInEveryOrder) {
  SINEW_NEEDS_CUDA();
  for (const Case& c : {Case{512, 10}, Case{1100, 10}, Case{300, 40}, Case{50, 100}, Case{5, 1100}}) {
    const std::vector<float> x = logits<float>(c);
    const std::vector<int64_t> labels = labels_for(c);
    const Entropy<float> first = entropy_on_device(c, x, labels, Wanted::both);
    in_all_orders([&] {
      const Entropy<float> again = entropy_on_device(c, x, labels, Wanted::both);
      EXPECT_EQ(again.loss, first.loss);
      EXPECT_EQ(again.dx, first.dx);
    });
  }
}

}  // namespace
}  // namespace sinew::testing
