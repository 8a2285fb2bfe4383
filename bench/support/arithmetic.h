// What the cores do at best: fused multiply-adds of f32 that never leave the registers.
#pragma once

#include <chrono>
#include <thread>
#include <vector>

#include "core/cpu/cpu_info.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sinew::bench {

constexpr int kFmaRounds = 100'000;  // a millisecond or less

// As many independent chains as hide the latency of an addition: 4 cycles, two units.
#if defined(__x86_64__)
#define SINEW_FMA_LOOP(suffix, isa, Vector, prefix, lanes)                            \
  __attribute__((target(isa))) inline double fma_##suffix() {                         \
    constexpr int kChains = 10;                                                       \
    const Vector a = prefix##_set1_ps(0.999f), b = prefix##_set1_ps(0.001f);          \
    Vector v[kChains];                                                                \
    for (int i = 0; i < kChains; ++i) v[i] = prefix##_set1_ps(static_cast<float>(i)); \
    for (int k = 0; k < kFmaRounds; ++k) {                                            \
      for (int i = 0; i < kChains; ++i) v[i] = prefix##_fmadd_ps(v[i], a, b);         \
      asm volatile("" : "+v"(v[0]), "+v"(v[1]), "+v"(v[2]), "+v"(v[3]), "+v"(v[4]));  \
      asm volatile("" : "+v"(v[5]), "+v"(v[6]), "+v"(v[7]), "+v"(v[8]), "+v"(v[9]));  \
    }                                                                                 \
    return 2.0 * lanes * kChains * kFmaRounds;                                        \
  }
SINEW_FMA_LOOP(512, "avx512f", __m512, _mm512, 16)
SINEW_FMA_LOOP(256, "avx2,fma", __m256, _mm256, 8)
#undef SINEW_FMA_LOOP
#endif

// Of num_threads() threads together, with the widest vectors of this machine; 0 where that is unknown (no AVX2).
inline double register_flops_per_second() {
  double (*run)() = nullptr;
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx512f"))
    run = fma_512;
  else if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
    run = fma_256;
#endif
  if (!run) return 0;
  std::vector<double> rates(static_cast<size_t>(num_threads()));
  const auto timed = [&](size_t i) {
    run();  // until the clock has settled
    const auto begin = std::chrono::steady_clock::now();
    const double flops = run();
    rates[i] = flops / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  std::vector<std::thread> others;
  for (size_t i = 1; i < rates.size(); ++i) others.emplace_back(timed, i);
  timed(0);
  for (std::thread& t : others) t.join();
  double sum = 0;
  for (double r : rates) sum += r;
  return sum;
}

}  // namespace sinew::bench
