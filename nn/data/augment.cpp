#include "nn/data/augment.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/philox.h"
#include "nn/names.h"

namespace sinew::nn {
namespace {

constexpr std::array<std::pair<const char*, Augment>, 5> kNamed{{
    {"none", Augment::none},
    {"flip", Augment::flip},
    {"crop", Augment::crop},
    {"crop_flip", Augment::crop_flip},
    {"resized_crop", Augment::resized_crop},
}};

bool flips(Augment a) { return a == Augment::flip || a == Augment::crop_flip || a == Augment::resized_crop; }

// Blocks of a sample's stream. Values are part of the reproducibility contract.
constexpr uint64_t kPlaceBlock = 0;    // top, left, flip
constexpr uint64_t kResizedBlock = 1;  // one block for each attempt: area, ratio, top, left

// e^x for |x| <= 0.3 from its series: std::exp may differ from one machine to the other in the last bit.
double small_exp(double x) {
  double sum = 1, term = 1;
  for (int k = 1; k <= 16; ++k) sum += term *= x / k;
  return sum;
}

int64_t draw_to(uint32_t bits, int64_t last) { return below(bits, static_cast<uint32_t>(last + 1)); }

Window resized_window(int64_t height, int64_t width, const RngKey& key) {
  constexpr double kLeastArea = 0.08, kLogRatio = 0.28768207245178085;  // ln(4/3)
  constexpr uint64_t kAttempts = 10;
  const double area = static_cast<double>(height) * static_cast<double>(width);
  for (uint64_t attempt = 0; attempt < kAttempts; ++attempt) {
    const PhiloxBlock b = philox_block(key, kResizedBlock + attempt);
    const double wanted = area * (kLeastArea + (1 - kLeastArea) * uniform01(b.v[0]));
    const double ratio = small_exp(kLogRatio * (2.0 * uniform01(b.v[1]) - 1));
    const auto w = static_cast<int64_t>(std::floor(std::sqrt(wanted * ratio) + 0.5));
    const auto h = static_cast<int64_t>(std::floor(std::sqrt(wanted / ratio) + 0.5));
    if (w < 1 || w > width || h < 1 || h > height) continue;
    return {.top = draw_to(b.v[2], height - h), .left = draw_to(b.v[3], width - w), .height = h, .width = w};
  }
  // The middle, as much of it as the ratio allows.
  const int64_t h = std::min(height, std::max<int64_t>(1, (4 * width + 1) / 3));
  const int64_t w = std::min(width, std::max<int64_t>(1, (4 * height + 1) / 3));
  return central_window(height, width, h, w);
}

}  // namespace

std::vector<std::string> augment_names() { return names_of(kNamed); }

Result<Augment> augment_named(const std::string& name) {
  for (const auto& [known, value] : kNamed)
    if (name == known) return value;
  std::string all;
  for (const std::string& known : augment_names()) all += (all.empty() ? "" : ", ") + known;
  return make_status(StatusCode::invalid_argument, "data.augment '", name, "' is not one of ", all);
}

Window central_window(int64_t height, int64_t width, int64_t crop_height, int64_t crop_width) {
  return {
      .top = (height - crop_height) / 2, .left = (width - crop_width) / 2, .height = crop_height, .width = crop_width};
}

Window training_window(const ImageOptions& options, int64_t height, int64_t width, int64_t crop_height,
                       int64_t crop_width, const Draw& draw, int64_t sample) {
  const Augment a = options.augment;
  if (a == Augment::none) return central_window(height, width, crop_height, crop_width);
  const RngKey key{.seed = draw.seed,
                   .purpose = static_cast<uint32_t>(RngPurpose::augment),
                   .rank = static_cast<uint32_t>(sample),
                   .step = draw.pass};
  const PhiloxBlock b = philox_block(key, kPlaceBlock);
  Window window;
  if (a == Augment::resized_crop) {
    window = resized_window(height, width, key);
  } else if (a == Augment::flip) {
    window = central_window(height, width, crop_height, crop_width);
  } else {
    const int64_t p = options.padding;
    SINEW_CHECK(crop_height <= height + 2 * p && crop_width <= width + 2 * p, "augment", "a crop of ", crop_height,
                " x ", crop_width, " from ", height, " x ", width, " with padding ", p);
    window = {.top = draw_to(b.v[0], height + 2 * p - crop_height) - p,
              .left = draw_to(b.v[1], width + 2 * p - crop_width) - p,
              .height = crop_height,
              .width = crop_width};
  }
  window.flip = flips(a) && (b.v[2] >> 31) != 0;
  return window;
}

Normalisation::Normalisation(int64_t channels, const std::vector<double>& mean, const std::vector<double>& std) {
  const auto c = static_cast<size_t>(channels);
  SINEW_CHECK((mean.size() == 1 || mean.size() == c) && (std.size() == 1 || std.size() == c), "normalisation",
              mean.size(), " means and ", std.size(), " standard deviations for ", channels, " channels");
  tables_.resize(c);
  for (size_t i = 0; i < c; ++i) {
    const double m = mean[mean.size() == 1 ? 0 : i], s = std[std.size() == 1 ? 0 : i];
    SINEW_CHECK(s > 0, "normalisation", "standard deviation ", s);
    for (size_t v = 0; v < 256; ++v) tables_[i][v] = static_cast<float>((static_cast<double>(v) / 255 - m) / s);
  }
}

namespace {

// n pixels of C channels from `pixels` on; step: C or, mirrored, -C. C as a constant lets the compiler unroll.
template <int C>
float* write_pixels(const std::vector<std::array<float, 256>>& tables, const uint8_t* pixels, int64_t n,
                    std::ptrdiff_t step, float* out) {
  const auto channels = C > 0 ? static_cast<size_t>(C) : tables.size();
  const std::array<float, 256>* table = tables.data();
  for (int64_t i = 0; i < n; ++i, pixels += step)
    for (size_t c = 0; c < channels; ++c) *out++ = table[c][pixels[c]];
  return out;
}

}  // namespace

void Normalisation::write(const uint8_t* image, int64_t height, int64_t width, const Window& w, float* out) const {
  const auto channels = this->channels();
  const auto pixels = channels == 1 ? write_pixels<1> : channels == 3 ? write_pixels<3> : write_pixels<0>;
  auto black = [&](int64_t n) {
    for (int64_t i = 0; i < n; ++i)
      for (const auto& table : tables_) *out++ = table[0];
  };
  // The columns of a row that the image has, and how many black ones lie before and behind them.
  const int64_t begin = std::clamp<int64_t>(w.left, 0, width),
                end = std::clamp<int64_t>(w.left + w.width, begin, width);
  int64_t before = std::clamp<int64_t>(-w.left, 0, w.width), behind = w.width - before - (end - begin);
  if (w.flip) std::swap(before, behind);
  for (int64_t y = w.top; y < w.top + w.height; ++y) {
    if (y < 0 || y >= height) {
      black(w.width);
      continue;
    }
    black(before);
    const uint8_t* row = image + y * width * channels;
    out = w.flip ? pixels(tables_, row + (end - 1) * channels, end - begin, -channels, out)
                 : pixels(tables_, row + begin * channels, end - begin, channels, out);
    black(behind);
  }
}

Status check_normalisation(const ImageOptions& options, int64_t channels) {
  for (const auto& [name, values] : {std::pair("data.mean", &options.mean), std::pair("data.std", &options.std)}) {
    if (!values->empty() && values->size() != 1 && static_cast<int64_t>(values->size()) != channels)
      return make_status(StatusCode::invalid_argument, name, ": ", values->size(), " values for ", channels,
                         channels == 1 ? " channel" : " channels", "; give one, or one for each");
  }
  for (double s : options.std)
    if (!(s > 0)) return make_status(StatusCode::invalid_argument, "data.std: ", s, " is not positive");
  return Status::Ok();
}

}  // namespace sinew::nn
