// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as
// easy as 1, 2, 3" (SC 2011), section 3. Its output is a pure function of (key, counter): the same bits on CPU
// and GPU, for any number of threads and any order of evaluation.
//
// A random tensor is named by an RngKey; element i uses word i % 4 of block i / 4. Integer results and the
// uniform floats are exact everywhere; normals (Box-Muller) agree to the libm's rounding.
//
// Plain C-like code without standard C++ headers, so that .cu files can use it.
#pragma once

#include <stdint.h>

#include "core/host_device.h"

namespace sinew {

// What a stream of random numbers is for. Values are part of the reproducibility contract: append only.
enum class RngPurpose : uint32_t {
  init = 1,
  shuffle = 2,
  dropout = 3,
  hutchinson = 4,
  synthetic = 5,
  augment = 6,
  scheme = 7,
  network = 8,  // simulated links
  fault = 9,
  compute = 10,  // simulated compute cost
  shard = 11,
  sampled_labels = 12,  // Gauss-Newton curvature
  test = 1000,
};

struct RngKey {
  uint64_t seed = 0;
  uint32_t purpose = 0;
  uint32_t rank = 0;  // worker, layer or tensor number
  uint64_t step = 0;  // step, epoch or sample
};

struct PhiloxBlock {
  uint32_t v[4];
};

SINEW_HD PhiloxBlock philox4x32_10(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    uint64_t p0 = uint64_t(0xD2511F53u) * c0, p1 = uint64_t(0xCD9E8D57u) * c2;
    uint32_t n0 = uint32_t(p1 >> 32) ^ c1 ^ k0, n1 = uint32_t(p1);
    uint32_t n2 = uint32_t(p0 >> 32) ^ c3 ^ k1, n3 = uint32_t(p0);
    c0 = n0, c1 = n1, c2 = n2, c3 = n3;
    k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
  }
  return PhiloxBlock{{c0, c1, c2, c3}};
}

// Block number `block` of the stream: 64-bit block counter, then (rank, step) through a mixed key.
SINEW_HD PhiloxBlock philox_block(const RngKey& key, uint64_t block) {
  PhiloxBlock mixed = philox4x32_10(uint32_t(key.step), uint32_t(key.step >> 32), key.rank, key.purpose,
                                    uint32_t(key.seed), uint32_t(key.seed >> 32));
  return philox4x32_10(uint32_t(block), uint32_t(block >> 32), mixed.v[0], mixed.v[1], mixed.v[2], mixed.v[3]);
}
SINEW_HD uint32_t philox_u32(const RngKey& key, uint64_t index) { return philox_block(key, index / 4).v[index % 4]; }
SINEW_HD uint64_t philox_u64(const RngKey& key, uint64_t index) {
  PhiloxBlock b = philox_block(key, index / 2);
  return index % 2 ? (uint64_t(b.v[3]) << 32 | b.v[2]) : (uint64_t(b.v[1]) << 32 | b.v[0]);
}

// [0, 1) with 24 bits; exact in f32 and f64.
SINEW_HD float uniform01(uint32_t bits) { return float(bits >> 8) * 0x1p-24f; }
// [0, 1) with 53 bits.
SINEW_HD double uniform01(uint64_t bits) { return double(bits >> 11) * 0x1p-53; }
// Uniform in [0, bound) by multiply-shift; bias below 2^-32. REQUIRES: bound > 0.
SINEW_HD uint32_t below(uint32_t bits, uint32_t bound) { return uint32_t((uint64_t(bits) * bound) >> 32); }

}  // namespace sinew
