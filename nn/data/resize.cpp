#include "nn/data/resize.h"

#include <algorithm>
#include <cmath>

namespace sinew::nn {
namespace {

constexpr int kBits = 22;  // of a weight's fraction: 255 * 2^22 fits 32 bits

// For each output position the inputs first .. first + count - 1 and their weights, which add up to about 2^22.
struct Filter {
  struct Span {
    int64_t first, count;
  };
  std::vector<Span> spans;
  std::vector<int32_t> weights;  // stride each
  int64_t stride = 0;
};

Filter triangle(int64_t from, int64_t to) {
  Filter f;
  const double scale = static_cast<double>(from) / static_cast<double>(to), support = std::max(scale, 1.0);
  f.stride = static_cast<int64_t>(std::ceil(support)) * 2 + 1;
  f.weights.resize(static_cast<size_t>(to * f.stride));
  std::vector<double> real(static_cast<size_t>(f.stride));
  for (int64_t i = 0; i < to; ++i) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t first = std::max<int64_t>(0, static_cast<int64_t>(centre - support + 0.5));
    const int64_t end = std::min<int64_t>(from, static_cast<int64_t>(centre + support + 0.5));
    double sum = 0;
    for (int64_t k = first; k < end; ++k) {
      const double distance = std::abs((static_cast<double>(k) - centre + 0.5) / support);
      sum += real[static_cast<size_t>(k - first)] = std::max(0.0, 1 - distance);
    }
    f.spans.push_back({first, end - first});
    for (int64_t k = 0; k < end - first; ++k)
      f.weights[static_cast<size_t>(i * f.stride + k)] =
          static_cast<int32_t>(std::floor(real[static_cast<size_t>(k)] / sum * (1 << kBits) + 0.5));
  }
  return f;
}

uint8_t rounded(int32_t sum) { return static_cast<uint8_t>(std::clamp((sum + (1 << (kBits - 1))) >> kBits, 0, 255)); }

}  // namespace

void resize_window(const uint8_t* image, int64_t image_width, int64_t channels, const Window& window, int64_t height,
                   int64_t width, uint8_t* out) {
  SINEW_CHECK(window.height > 0 && window.width > 0 && height > 0 && width > 0, "resize", window.height, " x ",
              window.width, " to ", height, " x ", width);
  const Filter across = triangle(window.width, width), down = triangle(window.height, height);
  const int64_t row = width * channels;
  std::vector<uint8_t> narrowed(static_cast<size_t>(window.height * row));
  for (int64_t y = 0; y < window.height; ++y) {
    const uint8_t* in = image + ((window.top + y) * image_width + window.left) * channels;
    uint8_t* to = narrowed.data() + y * row;
    for (int64_t x = 0; x < width; ++x) {
      const auto [first, count] = across.spans[static_cast<size_t>(x)];
      const int32_t* weights = across.weights.data() + x * across.stride;
      for (int64_t c = 0; c < channels; ++c) {
        int32_t sum = 0;
        for (int64_t k = 0; k < count; ++k) sum += weights[k] * in[(first + k) * channels + c];
        *to++ = rounded(sum);
      }
    }
  }
  std::vector<int32_t> sums(static_cast<size_t>(row));
  for (int64_t y = 0; y < height; ++y) {
    const auto [first, count] = down.spans[static_cast<size_t>(y)];
    const int32_t* weights = down.weights.data() + y * down.stride;
    std::fill(sums.begin(), sums.end(), 0);
    for (int64_t k = 0; k < count; ++k) {
      const uint8_t* in = narrowed.data() + (first + k) * row;
      for (int64_t i = 0; i < row; ++i) sums[static_cast<size_t>(i)] += weights[k] * in[i];
    }
    for (int64_t i = 0; i < row; ++i) *out++ = rounded(sums[static_cast<size_t>(i)]);
  }
}

}  // namespace sinew::nn
