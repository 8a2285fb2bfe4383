// The IDX format of MNIST and its relatives: two zero bytes, the element type (8 for unsigned bytes, the only one
// read here), the number of dimensions, each extent as 32-bit big-endian, then the values, row-major. Plain or
// packed with gzip (told from the content, not from the name).
// Format: the MNIST distribution, http://yann.lecun.com/exdb/mnist/ ; gzip: RFC 1952.
//
// Files are hostile input: nothing is allocated before the header fits the file's size, a packed file may unpack
// to what its header says and no more, and every defect is one data_error that names the file and the numbers.
//
// Thread safety: free functions.
#pragma once

#include <string>
#include <vector>

#include "nn/data/dataset.h"

namespace sinew::nn {

// Of v / 255 over MNIST's training part.
inline constexpr double kMnistMean = 0.1307, kMnistStd = 0.3081;

struct IdxArray {
  Shape shape;
  std::vector<uint8_t> values;
};

// A whole file's bytes; `name` is for messages. Errors: data_error; unavailable for gzip in a build without zlib.
Result<IdxArray> parse_idx(const uint8_t* data, size_t size, const std::string& name);
Result<IdxArray> read_idx(const std::string& path);

// A folder with train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte, t10k-labels-idx1-ubyte,
// each plain or with .gz, or with the old names train-images.idx3-ubyte and so on. Samples are (H, W, 1), values
// (v / 255 - kMnistMean) / kMnistStd unless the options say otherwise.
// There are max(10, highest training label + 1) classes; a test label beyond them is an error.
Result<DataSplit> open_idx(const std::string& name, const std::string& dir, const ImageOptions& options = {});

}  // namespace sinew::nn
