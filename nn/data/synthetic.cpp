#include "nn/data/synthetic.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/philox.h"
#include "nn/data/u8_dataset.h"

namespace sinew::nn {
namespace {

// Lengths are in 1/64 pixel (kPixel), factors in 1/16384 (Q14), angles in 1/4096 of a turn.
// Right shifts of negative numbers are arithmetic, as C++20 defines them.
constexpr int kPixel = 64;
constexpr int kTurn = 4096;
constexpr int kOne = 1 << 14;

// sin(2 pi k / 256), Q14, first quarter.
constexpr std::array<int16_t, 65> kSine = {0,     402,   804,   1205,  1606,  2006,  2404,  2801,  3196,  3590,  3981,
                                           4370,  4756,  5139,  5520,  5897,  6270,  6639,  7005,  7366,  7723,  8076,
                                           8423,  8765,  9102,  9434,  9760,  10080, 10394, 10702, 11003, 11297, 11585,
                                           11866, 12140, 12406, 12665, 12916, 13160, 13395, 13623, 13842, 14053, 14256,
                                           14449, 14635, 14811, 14978, 15137, 15286, 15426, 15557, 15679, 15791, 15893,
                                           15986, 16069, 16143, 16207, 16261, 16305, 16340, 16364, 16379, 16384};

int sine(int angle) {
  const int a = angle & (kTurn - 1), quarter = a / 1024;
  const int b = quarter % 2 == 0 ? a % 1024 : 1024 - a % 1024;
  const int k = b / 16, fraction = b % 16;
  const int next = kSine[static_cast<size_t>(std::min(k + 1, 64))];
  const int value = (kSine[static_cast<size_t>(k)] * (16 - fraction) + next * fraction) / 16;
  return quarter < 2 ? value : -value;
}
int cosine(int angle) { return sine(angle + kTurn / 4); }

// An elliptic arc about (x, y); with radii 0 a point. Units of a glyph: 64 is half its box. Angle 0 points right,
// a quarter turn points down. The pieces of a stroke are joined by lines.
struct Piece {
  int x, y, rx, ry, from, to;
};
constexpr Piece at(int x, int y) { return {x, y, 0, 0, 0, 0}; }

struct Stroke {
  std::span<const Piece> pieces;
  bool optional = false;  // drawn in half of the samples
};

constexpr Piece kZero[] = {{0, 0, 38, 60, 0, kTurn}};
constexpr Piece kOneStem[] = {at(-22, -36), at(4, -60), at(4, 60)};
constexpr Piece kOneBase[] = {at(-24, 60), at(32, 60)};
constexpr Piece kTwo[] = {{0, -26, 36, 34, 2150, 4650}, at(-38, 60), at(42, 60)};
constexpr Piece kThree[] = {{-2, -30, 34, 30, 2300, 5000}, {-2, 30, 38, 31, 3250, 6000}};
constexpr Piece kFourAngle[] = {at(14, -60), at(-40, 22), at(44, 22)};
constexpr Piece kFourStem[] = {at(18, -14), at(18, 60)};
constexpr Piece kFive[] = {at(38, -58), at(-26, -58), at(-30, -8), {-2, 22, 38, 38, 2700, 5900}};
constexpr Piece kSix[] = {at(22, -60), at(-10, -34), at(-32, 4), {0, 26, 34, 34, 2250, 2250 + kTurn}};
constexpr Piece kSeven[] = {at(-40, -58), at(40, -58), at(-12, 60)};
constexpr Piece kSevenBar[] = {at(-20, 4), at(32, 4)};
constexpr Piece kEightTop[] = {{0, -30, 30, 29, 0, kTurn}};
constexpr Piece kEightBottom[] = {{0, 30, 36, 30, 0, kTurn}};
constexpr Piece kNine[] = {{0, -26, 34, 34, 0, kTurn}, at(30, 10), at(12, 60)};

std::array<Stroke, 2> strokes_of(int digit) {
  switch (digit) {
    case 0:
      return {{{kZero}, {}}};
    case 1:
      return {{{kOneStem}, {kOneBase, true}}};
    case 2:
      return {{{kTwo}, {}}};
    case 3:
      return {{{kThree}, {}}};
    case 4:
      return {{{kFourAngle}, {kFourStem}}};
    case 5:
      return {{{kFive}, {}}};
    case 6:
      return {{{kSix}, {}}};
    case 7:
      return {{{kSeven}, {kSevenBar, true}}};
    case 8:
      return {{{kEightTop}, {kEightBottom}}};
    default:
      return {{{kNine}, {}}};
  }
}

// The numbers of one stream, one after the other.
class Draws {
 public:
  explicit Draws(const RngKey& key) : key_(key) {}
  uint32_t word() {
    if (next_ % 4 == 0) block_ = philox_block(key_, next_ / 4);
    return block_.v[next_++ % 4];
  }
  // Uniform in low..high, both included.
  int in(int low, int high) { return low + static_cast<int>(below(word(), static_cast<uint32_t>(high - low + 1))); }

 private:
  const RngKey key_;
  uint64_t next_ = 0;
  PhiloxBlock block_{};
};

RngKey key_of(uint64_t seed, SyntheticPart part, bool labels, int64_t number) {
  return {.seed = seed,
          .purpose = static_cast<uint32_t>(RngPurpose::synthetic),
          .rank = static_cast<uint32_t>(part) + (labels ? 2u : 0u),
          .step = static_cast<uint64_t>(number)};
}

struct Point {
  int x, y;
};

// From a glyph's units to the image: a sine bend, then an affine map.
class Warp {
 public:
  explicit Warp(Draws& draws) : bend_(draws.in(-6, 6)), wave_(draws.in(10, 26)), phase_(draws.in(0, kTurn - 1)) {
    const int angle = draws.in(-230, 230);  // 20 degrees
    const int scale_x = draws.in(10, 18) * kOne / 16, scale_y = draws.in(11, 17) * kOne / 16;
    const int shear = draws.in(-4500, 4500);
    const int c = cosine(angle), s = sine(angle);
    // rotation * shear * scale, times 10: a glyph's half box of 64 units is 640 / 64 = 10 pixels.
    xx_ = 10 * (c * scale_x >> 14);
    yx_ = 10 * (s * scale_x >> 14);
    xy_ = 10 * (((c * shear >> 14) - s) * scale_y >> 14);
    yy_ = 10 * (((s * shear >> 14) + c) * scale_y >> 14);
    shift_ = {draws.in(-3 * kPixel / 2, 3 * kPixel / 2), draws.in(-3 * kPixel / 2, 3 * kPixel / 2)};
  }
  Point operator()(Point p) const {
    const int x = p.x + (bend_ * sine(p.y * wave_ + phase_) >> 14);
    constexpr int kMiddle = kSyntheticSide * kPixel / 2;
    return {((xx_ * x + xy_ * p.y) >> 14) + kMiddle + shift_.x, ((yx_ * x + yy_ * p.y) >> 14) + kMiddle + shift_.y};
  }

 private:
  int bend_, wave_, phase_;
  int xx_ = 0, xy_ = 0, yx_ = 0, yy_ = 0;  // Q14
  Point shift_{};
};

class Canvas {
 public:
  explicit Canvas(std::span<uint8_t, kSyntheticPixels> image) : image_(image) { std::ranges::fill(image_, uint8_t{0}); }

  // A line with round ends; half its width is `radius`, its edge one pixel soft. Overlaps do not add up.
  void line(Point a, Point b, int radius, int ink) {
    const int outer = radius + kPixel / 2, inner = std::max(radius - kPixel / 2, 0);
    const int64_t outer2 = int64_t{outer} * outer, inner2 = int64_t{inner} * inner;
    const int64_t dx = b.x - a.x, dy = b.y - a.y, length2 = dx * dx + dy * dy;
    const auto [x0, x1] = pixels(std::min(a.x, b.x) - outer, std::max(a.x, b.x) + outer);
    const auto [y0, y1] = pixels(std::min(a.y, b.y) - outer, std::max(a.y, b.y) + outer);
    for (int row = y0; row <= y1; ++row) {
      for (int column = x0; column <= x1; ++column) {
        const int64_t px = column * kPixel + kPixel / 2 - a.x, py = row * kPixel + kPixel / 2 - a.y;
        const int64_t along = px * dx + py * dy;
        int64_t distance2;
        if (along <= 0) {
          distance2 = px * px + py * py;
        } else if (along >= length2) {
          distance2 = (px - dx) * (px - dx) + (py - dy) * (py - dy);
        } else {
          const int64_t across = px * dy - py * dx;
          if (across * across >= outer2 * length2) continue;
          distance2 = across * across / length2;
        }
        if (distance2 >= outer2) continue;
        const int64_t value = distance2 <= inner2 ? ink : ink * (outer2 - distance2) / (outer2 - inner2);
        uint8_t& pixel = image_[static_cast<size_t>(row * kSyntheticSide + column)];
        pixel = std::max(pixel, static_cast<uint8_t>(value));
      }
    }
  }

  void erase(Point centre, int radius) {
    const auto [x0, x1] = pixels(centre.x - radius, centre.x + radius);
    const auto [y0, y1] = pixels(centre.y - radius, centre.y + radius);
    for (int row = y0; row <= y1; ++row) {
      for (int column = x0; column <= x1; ++column) {
        const int dx = column * kPixel + kPixel / 2 - centre.x, dy = row * kPixel + kPixel / 2 - centre.y;
        if (dx * dx + dy * dy < radius * radius) image_[static_cast<size_t>(row * kSyntheticSide + column)] = 0;
      }
    }
  }

  // Adds to each pixel a triangular noise of up to +-amplitude.
  void noise(Draws& draws, int amplitude) {
    uint32_t word = 0;
    for (size_t i = 0; i < image_.size(); ++i) {
      word = i % 2 == 0 ? draws.word() : word >> 16;
      const int triangular = static_cast<int>(word & 255) + static_cast<int>(word >> 8 & 255) - 255;
      image_[i] = static_cast<uint8_t>(std::clamp(image_[i] + (triangular * amplitude >> 8), 0, 255));
    }
  }

 private:
  // The pixels that low..high touches, cut at the border.
  static std::pair<int, int> pixels(int low, int high) {
    return {std::max(low >> 6, 0), std::min(high >> 6, kSyntheticSide - 1)};
  }
  std::span<uint8_t, kSyntheticPixels> image_;
};

void draw_stroke(const Stroke& stroke, const Warp& warp, Draws& draws, Canvas& canvas, int radius, int ink) {
  const Point offset{draws.in(-6, 6), draws.in(-6, 6)};
  Point last{};
  bool first = true;
  auto extend = [&](Point glyph) {
    const Point point = warp(glyph);
    if (!first) canvas.line(last, point, radius, ink);
    last = point, first = false;
  };
  for (const Piece& piece : stroke.pieces) {
    const int x = piece.x + offset.x + draws.in(-7, 7), y = piece.y + offset.y + draws.in(-7, 7);
    const int rx = piece.rx * draws.in(12, 20) / 16, ry = piece.ry * draws.in(13, 19) / 16;
    const int from = piece.from + draws.in(-150, 150), to = piece.to + draws.in(-150, 150);
    const int steps = piece.rx == 0 ? 0 : (piece.to - piece.from) / 300 + 1;
    for (int k = 0; k <= steps; ++k) {
      const int angle = steps == 0 ? 0 : from + (to - from) * k / steps;
      extend({x + (rx * cosine(angle) >> 14), y + (ry * sine(angle) >> 14)});
    }
  }
}

U8Samples samples_of(uint64_t seed, SyntheticPart part, int64_t size) {
  U8Samples samples;
  samples.name = "synthetic";
  samples.sample_shape = {kSyntheticSide, kSyntheticSide, 1};
  samples.classes = 10;
  for (int digit = 0; digit < 10; ++digit) samples.class_names.push_back(std::to_string(digit));
  samples.mean = {0.12}, samples.std = {0.23};
  samples.values.resize(static_cast<size_t>(size) * kSyntheticPixels);
  samples.labels.resize(static_cast<size_t>(size));
  for (int64_t i = 0; i < size; ++i) {
    samples.labels[static_cast<size_t>(i)] = synthetic_label(seed, part, i);
    draw_synthetic(
        seed, part, i,
        std::span<uint8_t, kSyntheticPixels>(samples.values.data() + i * kSyntheticPixels, kSyntheticPixels));
  }
  return samples;
}

}  // namespace

int synthetic_label(uint64_t seed, SyntheticPart part, int64_t i) {
  Draws draws(key_of(seed, part, true, i / 10));
  std::array<int, 10> order{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  for (int k = 9; k > 0; --k) std::swap(order[static_cast<size_t>(k)], order[static_cast<size_t>(draws.in(0, k))]);
  return order[static_cast<size_t>(i % 10)];
}

void draw_synthetic(uint64_t seed, SyntheticPart part, int64_t i, std::span<uint8_t, kSyntheticPixels> image) {
  Draws draws(key_of(seed, part, false, i));
  Canvas canvas(image);
  const Warp warp(draws);
  const int radius = draws.in(kPixel / 2, 3 * kPixel / 2), ink = draws.in(150, 255);
  for (const Stroke& stroke : strokes_of(synthetic_label(seed, part, i))) {
    if (stroke.pieces.empty() || (stroke.optional && draws.in(0, 1) == 0)) continue;
    draw_stroke(stroke, warp, draws, canvas, radius, ink);
  }
  constexpr int kSize = kSyntheticSide * kPixel;
  for (int erased = draws.in(0, 1); erased > 0; --erased) {
    const Point centre{draws.in(6 * kPixel, kSize - 6 * kPixel), draws.in(4 * kPixel, kSize - 4 * kPixel)};
    canvas.erase(centre, draws.in(kPixel, 3 * kPixel));
  }
  for (int stray = draws.in(0, 2); stray > 0; --stray) {
    const Point from{draws.in(0, kSize), draws.in(0, kSize)};
    const Point to{from.x + draws.in(-8 * kPixel, 8 * kPixel), from.y + draws.in(-8 * kPixel, 8 * kPixel)};
    const int stray_radius = draws.in(kPixel / 3, kPixel), stray_ink = draws.in(80, 255);
    canvas.line(from, to, stray_radius, stray_ink);
  }
  canvas.noise(draws, draws.in(20, 90));
}

Result<DataSplit> open_synthetic(uint64_t seed, int64_t train_size, const ImageOptions& options) {
  SINEW_CHECK(train_size > 0 && train_size <= kSyntheticMaxSize, "open_synthetic", train_size, " samples");
  return make_u8_split(samples_of(seed, SyntheticPart::train, train_size),
                       samples_of(seed, SyntheticPart::test, kSyntheticTestSize), options);
}

}  // namespace sinew::nn
