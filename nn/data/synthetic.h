// The built-in data set: 28 x 28 grey images of the ten digits, drawn by a generator of our own.
//
// A digit is a few strokes (lines and elliptic arcs) that are jittered, bent by a sine wave, put through a random
// affine map, drawn with a random pen, partly erased, crossed by stray strokes and covered with noise. All of it is
// integer arithmetic (fixed point, sines from a table): the same seed gives the same bytes on every machine, and a
// test pins their SHA-256. Sample i of a part is a pure function of (seed, part, i), Philox purpose `synthetic`.
//
// Every ten consecutive samples hold each label once, in random order. 20,000 + 4,000 samples by default.
// Thread safety: free functions.
#pragma once

#include <span>

#include "nn/data/dataset.h"

namespace sinew::nn {

inline constexpr int64_t kSyntheticTrainSize = 20'000, kSyntheticTestSize = 4'000, kSyntheticMaxSize = 1'000'000;
inline constexpr int kSyntheticSide = 28;
inline constexpr int kSyntheticPixels = kSyntheticSide * kSyntheticSide;

// Values are part of the reproducibility contract.
enum class SyntheticPart : uint32_t { train = 0, test = 1 };

int synthetic_label(uint64_t seed, SyntheticPart part, int64_t i);
// Row-major; 0 is background, 255 full ink.
void draw_synthetic(uint64_t seed, SyntheticPart part, int64_t i, std::span<uint8_t, kSyntheticPixels> image);

// REQUIRES: 0 < train_size <= kSyntheticMaxSize.
// Errors: invalid_argument for options that do not fit the images.
Result<DataSplit> open_synthetic(uint64_t seed, int64_t train_size = kSyntheticTrainSize,
                                 const ImageOptions& options = {});

}  // namespace sinew::nn
