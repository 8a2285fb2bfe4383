// Resizing 8-bit images: bilinear, with a triangle that is widened when the image becomes smaller, so that no pixel is
// skipped (what Pillow's BILINEAR and torchvision's antialiased Resize do). Columns first, then rows; weights are
// integers and the intermediate image has bytes, so every machine gives the same bytes.
//
// Thread safety: free functions.
#pragma once

#include "nn/data/augment.h"

namespace sinew::nn {

// The window of an image (row-major, image_width x channels bytes a row), resized to height x width x channels at
// `out`. window.flip is not applied. REQUIRES: the window lies in the image and is not empty; height, width > 0.
void resize_window(const uint8_t* image, int64_t image_width, int64_t channels, const Window& window, int64_t height,
                   int64_t width, uint8_t* out);

}  // namespace sinew::nn
