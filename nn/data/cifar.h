// CIFAR-10 and CIFAR-100 in their binary version (Krizhevsky, "Learning Multiple Layers of Features from Tiny Images",
// 2009; https://www.cs.toronto.edu/~kriz/cifar.html): records of label bytes and 3 planes of 32 x 32 bytes, red, green,
// blue. CIFAR-10 has one label byte, CIFAR-100 two (coarse and fine; the fine one is used). Plain or packed with gzip,
// told from the content.
//
// Samples are (32, 32, 3); the planes are interleaved once. How many there are follows from the files' sizes. Files are
// hostile input: every defect is one line that names the file and the numbers.
//
// Thread safety: free functions.
#pragma once

#include <array>

#include "nn/data/u8_dataset.h"

namespace sinew::nn {

inline constexpr int64_t kCifarSide = 32, kCifarPixels = 3 * kCifarSide * kCifarSide;

// Of v / 255 over the training part, per channel. Papers often divide by 0.2023 0.1994 0.2010 (a mean of the images'
// own deviations) instead: --data.std sets it.
inline constexpr std::array<double, 3> kCifar10Mean = {0.4914, 0.4822, 0.4465}, kCifar10Std = {0.2470, 0.2435, 0.2616};
inline constexpr std::array<double, 3> kCifar100Mean = {0.5071, 0.4865, 0.4409},
                                       kCifar100Std = {0.2673, 0.2564, 0.2762};

// Appends the records of a whole unpacked file to samples.values (interleaved) and samples.labels, checking labels
// against samples.classes. label_bytes: 1 or 2; the last one counts. `name` is for messages. Errors: data_error.
Status append_cifar(const std::vector<uint8_t>& bytes, int label_bytes, const std::string& name, U8Samples& samples);

// name: "cifar10": data_batch_1.bin to data_batch_5.bin and test_batch.bin, and batches.meta.txt where it is there;
// "cifar100": train.bin, test.bin and fine_label_names.txt. Each plain or with .gz. Files that are missing are named.
Result<DataSplit> open_cifar(const std::string& name, const std::string& dir, const ImageOptions& options = {});

}  // namespace sinew::nn
