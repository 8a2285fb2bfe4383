// needs(), step() and before_gradient() allocate nothing: small models are trained in microseconds a step.
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>

#include "tests/optim/trajectory.h"

namespace {
std::atomic<int64_t> allocations{0};
}
// Counts for the whole test binary; the array forms of the standard library end here. Not inlined: the compiler would
// see free() on what it knows as new's pointer.
[[gnu::noinline]] void* operator new(std::size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* p = std::malloc(size ? size : 1)) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace sinew::optim {
namespace {

TEST(Optimizer, AStepAllocatesNothing) {
  for (const std::string& name : optimizer_names()) {
    ParamLayout layout;
    layout.add("w", {64, 64});
    std::unique_ptr<Optimizer> o = make_optimizer({.name = name,
                                                   .weight_decay = 1e-4,
                                                   .decoupled_decay = 1e-4,
                                                   .clip_norm = 1,
                                                   .schedule = "inverse_sqrt",
                                                   .gamma = 1e-4,
                                                   .warmup_steps = 10});
    o->init(layout, DType::f32, Device::cpu);
    auto zeros = [&] { return Vec::zeros(layout.size(), DType::f32); };
    Vec theta = zeros(), target = zeros(), gradient = zeros(), diagonal = zeros(), scratch = zeros();
    fill(target.mutable_view(), 1);
    auto step = [&] { bowl_step(*o, theta, target, gradient, diagonal, scratch); };
    step();
    int64_t before = allocations.load();
    for (int i = 0; i < 100; ++i) step();
    EXPECT_EQ(allocations.load(), before) << name;
  }
  EXPECT_GT(allocations.load(), 0);
}

}  // namespace
}  // namespace sinew::optim
