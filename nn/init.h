// Initialisers by their known names. A weight is (out, in) or, for filters, (out, R, S, in): fan_in is in times the
// receptive field, fan_out is out times it (PyTorch's definition, for the house's order of axes).
//
// Values are drawn on the CPU and copied to the device, so the same key gives the same bits on every device.
#pragma once

#include <string>
#include <vector>

#include "core/philox.h"
#include "core/shape.h"
#include "core/vec.h"

namespace sinew::nn {

struct Initializer {
  enum class Kind {
    zeros,
    constant,         // value
    uniform,          // [-value, value)
    normal,           // standard deviation value
    kaiming_uniform,  // gain value (sqrt 2 for ReLU): bound = gain * sqrt(3 / fan_in). He et al. 2015
    kaiming_normal,   // std = gain / sqrt(fan_in)
    xavier_uniform,   // bound = gain * sqrt(6 / (fan_in + fan_out)). Glorot and Bengio 2010
    xavier_normal,    // std = gain * sqrt(2 / (fan_in + fan_out))
    lecun_normal,     // std = sqrt(1 / fan_in). LeCun et al. 1998, "Efficient BackProp"
    lecun_uniform,    // bound = sqrt(3 / fan_in)
    pytorch_default,  // Linear and Conv weights and biases: bound = 1 / sqrt(fan_in)
  } kind = Kind::zeros;
  double value = 0;
  int64_t fan_in = 0;  // for biases, which cannot tell; 0: from the shape
};

// Fills `out` (shape.numel() elements, floats). Throws Error for an unknown fan (a vector without fan_in).
void initialize(const Initializer& init, const Shape& shape, const RngKey& key, VecView out);

// The names that need no value: "zeros", "kaiming_uniform", ..., "pytorch_default". Kaiming's gain is ReLU's sqrt 2,
// Xavier's is 1.
std::vector<std::string> initializer_names();
// Throws Error with the list of names.
Initializer initializer_named(const std::string& name);

}  // namespace sinew::nn
