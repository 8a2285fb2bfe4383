#include <cmath>
#include <limits>

#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

// The vectors of an update on one side.
template <class T>
struct Vectors {
  std::vector<T> x, g, m, v, d;
};

template <class T>
Vectors<T> start(int64_t n) {
  const auto size = static_cast<size_t>(n);
  return {random_values<T>(size, -1, 1, 1), random_values<T>(size, -1, 1, 2), random_values<T>(size, -1, 1, 3),
          random_values<T>(size, 0, 1, 4), random_values<T>(size, -1, 1, 5)};
}

template <class T>
void expect_near(const char* what, const std::vector<T>& got, const std::vector<T>& want) {
  SCOPED_TRACE(what);
  const double tolerance = 32 * static_cast<double>(std::numeric_limits<T>::epsilon());
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), static_cast<double>(want[i]),
                tolerance * (1 + std::abs(static_cast<double>(want[i]))))
        << "element " << i;
}

// Calls update(table, x, g, m, v, d) on the CPU and on the device and compares all vectors.
template <class T, class Update>
void compare(const char* name, int64_t n, size_t offset, const Update& update) {
  SCOPED_TRACE(::testing::Message() << name << " " << to_string(dtype_of<T>) << ", n " << n << ", offset " << offset);
  Vectors<T> cpu = start<T>(n);
  const DeviceArray<T> x(cpu.x, offset), g(cpu.g, offset), m(cpu.m, offset), v(cpu.v, offset), d(cpu.d, offset);
  update(cpu_kernels(), cpu.x.data(), cpu.g.data(), cpu.m.data(), cpu.v.data(), cpu.d.data());
  update(device(), x.data(), g.data(), m.data(), v.data(), d.data());
  expect_near("x", x.read(), cpu.x);
  expect_near("g", g.read(), cpu.g);
  expect_near("m", m.read(), cpu.m);
  expect_near("v", v.read(), cpu.v);
  expect_near("d", d.read(), cpu.d);
}

struct Frame {
  double grad_scale, weight_decay, decoupled, x_scale;
};
constexpr Frame kFrames[] = {{1, 0, 0, -0.1}, {0.5, 0.02, 0, -0.1}, {1, 0, 0.03, -0.1}, {2, 0.01, 0.02, -0.3}};

template <class Args, class T>
Args frame(const Frame& f, int64_t n, T* x, const T* g) {
  Args args;
  args.dtype = dtype_of<T>;
  args.n = n;
  args.x = x;
  args.g = g;
  args.grad_scale = f.grad_scale;
  args.weight_decay = f.weight_decay;
  args.decoupled = f.decoupled;
  args.x_scale = f.x_scale;
  return args;
}

template <class T>
void check_sgd(int64_t n, size_t offset, const Frame& f) {
  for (int kind = 0; kind < 3; ++kind)
    compare<T>("sgd", n, offset, [&](const KernelTable& table, T* x, T* g, T* m, T*, T*) {
      auto args = frame<kernel::SgdArgs>(f, n, x, g);
      args.v = kind == 0 ? nullptr : m;
      args.momentum = kind == 0 ? 0 : 0.9;
      args.v_scale = 0.8;
      args.nesterov = kind == 2;
      table.sgd(args);
    });
}

template <class T>
void check_adam(int64_t n, size_t offset, const Frame& f) {
  compare<T>("adam", n, offset, [&](const KernelTable& table, T* x, T* g, T* m, T* v, T*) {
    auto args = frame<kernel::AdamArgs>(f, n, x, g);
    args.m = m;
    args.v = v;
    args.beta1 = 0.9;
    args.beta2 = 0.99;
    args.m_scale = 3;
    args.v_scale = 2;
    args.eps = 1e-3;
    table.adam(args);
  });
}

template <class T>
void check_adahessian(int64_t n, size_t offset, const Frame& f) {
  for (double power : {1.0, 0.5, 0.7})
    for (bool fresh : {false, true})
      compare<T>("adahessian", n, offset, [&](const KernelTable& table, T* x, T* g, T* m, T* v, T* d) {
        auto args = frame<kernel::AdaHessianArgs>(f, n, x, g);
        args.m = m;
        args.v = v;
        args.d = fresh ? d : nullptr;
        args.beta1 = 0.9;
        args.beta2 = 0.99;
        args.m_scale = 3;
        args.v_scale = 2;
        args.power = power;
        args.eps = 1e-2;
        table.adahessian(args);
      });
}

template <class T>
void check_sophia(int64_t n, size_t offset, const Frame& f) {
  for (bool fresh : {false, true})
    compare<T>("sophia", n, offset, [&](const KernelTable& table, T* x, T* g, T* m, T* v, T* d) {
      auto args = frame<kernel::SophiaArgs>(f, n, x, g);
      args.m = m;
      args.h = v;
      args.d = fresh ? d : nullptr;
      args.beta1 = 0.9;
      args.beta2 = 0.9;
      args.m_scale = 1.1;
      args.rho = 3;
      args.eps = 0.5;
      table.sophia(args);
    });
}

template <class T>
void check_lion(int64_t n, size_t offset, const Frame& f) {
  compare<T>("lion", n, offset, [&](const KernelTable& table, T* x, T* g, T* m, T*, T*) {
    auto args = frame<kernel::LionArgs>(f, n, x, g);
    args.m = m;
    args.beta1 = 0.9;
    args.beta2 = 0.99;
    table.lion(args);
  });
}

template <class T>
void check_all(int64_t n, size_t offset) {
  for (const Frame& f : kFrames) {
    check_sgd<T>(n, offset, f);
    check_adam<T>(n, offset, f);
    check_adahessian<T>(n, offset, f);
    check_sophia<T>(n, offset, f);
    check_lion<T>(n, offset, f);
  }
}

TEST(CudaOptim, EveryRule) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (int64_t n : {0, 1, 2, 5, 533})
      for (size_t offset : {0, 1}) {
        check_all<float>(n, offset);
        check_all<double>(n, offset);
      }
  });
}

TEST(CudaOptim, Long) {
  SINEW_NEEDS_CUDA();
  const std::vector<double> x = random_values<double>((size_t{1} << 21) + 517, -1, 1, 1);
  const DeviceArray<double> dx(x), dg(x);
  auto args = frame<kernel::SgdArgs>({1, 0, 0, -0.5}, static_cast<int64_t>(x.size()), dx.data(), dg.data());
  device().sgd(args);  // x -= x / 2
  const std::vector<double> got = dx.read();
  for (size_t i = 0; i < x.size(); ++i)
    if (got[i] != x[i] / 2) FAIL() << "element " << i;
}

// Where everything is zero, padding included, everything stays zero.
TEST(CudaOptim, PaddingStaysZero) {
  SINEW_NEEDS_CUDA();
  const std::vector<float> zero(64, 0.0f);
  const DeviceArray<float> x(zero), g(zero), m(zero), v(zero), d(zero);
  auto adam = frame<kernel::AdamArgs>(kFrames[3], 64, x.data(), g.data());
  adam.m = m.data();
  adam.v = v.data();
  adam.eps = 1e-8;
  device().adam(adam);
  auto sophia = frame<kernel::SophiaArgs>(kFrames[3], 64, x.data(), g.data());
  sophia.m = m.data();
  sophia.h = v.data();
  sophia.d = d.data();
  sophia.eps = 1e-8;
  device().sophia(sophia);
  auto lion = frame<kernel::LionArgs>(kFrames[3], 64, x.data(), g.data());
  lion.m = m.data();
  device().lion(lion);
  EXPECT_EQ(x.read(), zero);
  EXPECT_EQ(m.read(), zero);
  EXPECT_EQ(v.read(), zero);
}

// ---- block means ----

struct Means {
  int64_t outer, length, inner, block;
};

template <class T>
void check_block_mean(const Means& c, bool absolute, size_t offset) {
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << " (" << c.outer << ", " << c.length << ", " << c.inner
                                    << "), blocks of " << c.block << ", absolute " << absolute << ", offset "
                                    << offset);
  std::vector<T> x = random_values<T>(static_cast<size_t>(c.outer * c.length * c.inner), -1, 1, 6);
  const DeviceArray<T> dx(x, offset);
  cpu_kernels().block_mean({dtype_of<T>, c.outer, c.length, c.inner, c.block, absolute, x.data()});
  device().block_mean({dtype_of<T>, c.outer, c.length, c.inner, c.block, absolute, dx.data()});
  expect_near("means", dx.read(), x);
}

TEST(CudaBlockMean, Shapes) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    for (const Means& c :
         {Means{1, 1, 1, 1}, Means{5, 9, 1, 9}, Means{70, 9, 1, 9}, Means{3, 100, 1, 32}, Means{1, 3000, 1, 1500},
          Means{2, 1300, 1, 5000}, Means{300, 7, 1, 3}, Means{4, 9, 33, 9}, Means{2, 10, 5, 4}, Means{3, 9, 8, 9},
          Means{2, 21, 12, 17}, Means{1, 5, 70, 1}, Means{0, 5, 3, 2}, Means{2, 0, 3, 2}})
      for (bool absolute : {false, true}) {
        check_block_mean<float>(c, absolute, 0);
        check_block_mean<float>(c, absolute, 1);
        check_block_mean<double>(c, absolute, 0);
        check_block_mean<double>(c, absolute, 1);
      }
  });
}

// More columns than the largest grid takes at a time.
TEST(CudaBlockMean, Long) {
  SINEW_NEEDS_CUDA();
  check_block_mean<float>({1050000, 1, 1, 1}, true, 0);
}

}  // namespace
}  // namespace sinew::testing
