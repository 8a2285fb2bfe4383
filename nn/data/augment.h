// How an image becomes a training sample: random crop, flip, normalisation.
//
// Every random decision about sample i is a function of (seed, pass, i), drawn with Philox (purpose `augment`): it does
// not depend on the worker, on loader threads or on what was read before.
//
//   none          the central crop, as in a test
//   flip          the central crop, mirrored left to right with probability 1/2
//   crop          a crop at a random place; with `padding`, that many black pixels are put around the image first
//   crop_flip     both; padding 4 on whole 32 x 32 images is the usual CIFAR recipe (He et al., arXiv:1512.03385,
//                 section 4.2), a 28 x 28 crop without padding that of EASGD (arXiv:1412.6651, section 9.1)
//   resized_crop  a random part of 8 to 100 % of the area with a width-to-height ratio between 3/4 and 4/3, resized to
//                 the crop, then flipped as above (Szegedy et al., arXiv:1409.4842, section 6; torchvision's defaults)
//
// Padding is black before normalisation: it becomes (0 - mean) / std.
//
// Thread safety: values and free functions.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/status.h"

namespace sinew::nn {

enum class Augment { none, flip, crop, crop_flip, resized_crop };
std::vector<std::string> augment_names();
Result<Augment> augment_named(const std::string& name);

// Which reading of the set a training sample belongs to. pass: the epoch, or what the order of batches puts in its
// place.
struct Draw {
  uint64_t seed = 1;
  uint64_t pass = 0;
};

struct ImageOptions {
  Augment augment = Augment::none;
  int64_t crop = 0;  // side of a sample in pixels; 0: the whole image
  int64_t padding = 0;
  int64_t resize = 0;             // folders of images: the shorter side before a crop; 0: 8/7 of the crop
  std::vector<double> mean, std;  // of v / 255: one for all channels or one for each; empty: the set's own
};

// A rectangle of an image; it may reach over the border by the padding.
struct Window {
  int64_t top = 0, left = 0, height = 0, width = 0;
  bool flip = false;
};

// The middle of the image; an odd rest is cut below and on the right.
Window central_window(int64_t height, int64_t width, int64_t crop_height, int64_t crop_width);
// Of size crop_height x crop_width, but for resized_crop, whose window is to be resized.
// REQUIRES: the crop fits the image with its padding (but for resized_crop).
Window training_window(const ImageOptions& options, int64_t height, int64_t width, int64_t crop_height,
                       int64_t crop_width, const Draw& draw, int64_t sample);

// A byte of each channel to f32: (v / 255 - mean) / std, computed in double and rounded once.
class Normalisation {
 public:
  // mean, std: one value for all channels or one for each. Throws Error otherwise, and for a std of 0.
  Normalisation(int64_t channels, const std::vector<double>& mean, const std::vector<double>& std);
  int64_t channels() const { return static_cast<int64_t>(tables_.size()); }
  // image: height x width x channels. out: window.height x window.width x channels.
  void write(const uint8_t* image, int64_t height, int64_t width, const Window& window, float* out) const;

 private:
  std::vector<std::array<float, 256>> tables_;
};

// The numbers that an option gave, or else the set's own, are one for all channels or one for each, and std > 0.
Status check_normalisation(const ImageOptions& options, int64_t channels);

}  // namespace sinew::nn
