// The definition of a convolution (core/kernel_api.h), for tests of every implementation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernel_api.h"

namespace sinew::testing {

// Calls body(place in x, in the filters, in y) for every product of the definition.
template <class Body>
void for_every_conv_product(const kernel::ConvArgs& a, const Body& body) {
  for (int64_t n = 0; n < a.n; ++n)
    for (int64_t p = 0; p < a.p; ++p)
      for (int64_t q = 0; q < a.q; ++q)
        for (int64_t r = 0; r < a.r; ++r)
          for (int64_t s = 0; s < a.s; ++s) {
            const int64_t h = p * a.stride_h + r - a.pad_h, w = q * a.stride_w + s - a.pad_w;
            if (h < 0 || h >= a.h || w < 0 || w >= a.w) continue;
            for (int64_t k = 0; k < a.k; ++k)
              for (int64_t c = 0; c < a.c; ++c)
                body(static_cast<size_t>(((n * a.h + h) * a.w + w) * a.c + c),
                     static_cast<size_t>(((k * a.r + r) * a.s + s) * a.c + c),
                     static_cast<size_t>(((n * a.p + p) * a.q + q) * a.k + k));
          }
}

}  // namespace sinew::testing
