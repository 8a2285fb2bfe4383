// Users' own data in safetensors files: x (N, ...) f32 or u8, and y, either labels (N) i64 (or i32) from 0 or number
// targets (N) or (N, k) f32. A file for training and one for tests, or one of which a fixed part is kept for tests.
//
// f32 values are taken as they are, u8 values as v / 255; data.mean and data.std, over the last axis, change both.
// Samples of three dimensions are images: (H, W, C), or (C, H, W) with channels_first, converted once. Only images of
// bytes are augmented. There are (highest training label + 1) classes.
//
// Files are hostile input: every defect is one line with the file, the tensor and the numbers.
//
// Thread safety: free functions.
#pragma once

#include "core/safetensors.h"
#include "nn/data/dataset.h"

namespace sinew::nn {

// options.file, test_file, test_share, channels_first, image.
Result<DataSplit> open_tensors(const DataOptions& options);
// The same from files that have been read; test may be nullptr. The fuzz target.
Result<DataSplit> split_of_tensors(SafetensorsFile train, SafetensorsFile* test, const DataOptions& options);

}  // namespace sinew::nn
