#include "nn/init.h"

#include <array>
#include <cmath>
#include <numbers>
#include <utility>

#include "core/kernel_api.h"
#include "nn/names.h"

namespace sinew::nn {
namespace {

using Kind = Initializer::Kind;

constexpr double kReluGain = std::numbers::sqrt2;
const std::array<std::pair<const char*, Initializer>, 8> kNamed{{
    {"zeros", {Kind::zeros, 0, 0}},
    {"kaiming_uniform", {Kind::kaiming_uniform, kReluGain, 0}},
    {"kaiming_normal", {Kind::kaiming_normal, kReluGain, 0}},
    {"xavier_uniform", {Kind::xavier_uniform, 1, 0}},
    {"xavier_normal", {Kind::xavier_normal, 1, 0}},
    {"lecun_uniform", {Kind::lecun_uniform, 0, 0}},
    {"lecun_normal", {Kind::lecun_normal, 0, 0}},
    {"pytorch_default", {Kind::pytorch_default, 0, 0}},
}};

double fan_in(const Initializer& init, const Shape& shape) {
  if (init.fan_in > 0) return static_cast<double>(init.fan_in);
  SINEW_CHECK(shape.ndim() >= 2 && shape.numel() > 0, "initialize", "no fan_in given, and the shape ", shape,
              " does not tell it");
  const int64_t per_output = shape.numel() / shape[0];
  return static_cast<double>(per_output);
}

double fan_sum(const Initializer& init, const Shape& shape) {
  SINEW_CHECK(shape.ndim() >= 2 && shape.numel() > 0, "initialize", "no fan_out in a shape ", shape);
  const int64_t fan_out = shape.numel() / shape.dim(-1);
  return fan_in(init, shape) + static_cast<double>(fan_out);
}

// uniform: p1 is the bound; normal: p1 is the standard deviation.
struct Draw {
  RandomDist dist;
  double scale;
};

Draw draw_of(const Initializer& init, const Shape& shape) {
  constexpr auto uniform = RandomDist::uniform, normal = RandomDist::normal;
  switch (init.kind) {
    case Kind::uniform:
      return {uniform, init.value};
    case Kind::normal:
      return {normal, init.value};
    case Kind::kaiming_uniform:
      return {uniform, init.value * std::sqrt(3 / fan_in(init, shape))};
    case Kind::kaiming_normal:
      return {normal, init.value / std::sqrt(fan_in(init, shape))};
    case Kind::xavier_uniform:
      return {uniform, init.value * std::sqrt(6 / fan_sum(init, shape))};
    case Kind::xavier_normal:
      return {normal, init.value * std::sqrt(2 / fan_sum(init, shape))};
    case Kind::lecun_uniform:
      return {uniform, std::sqrt(3 / fan_in(init, shape))};
    case Kind::lecun_normal:
      return {normal, std::sqrt(1 / fan_in(init, shape))};
    case Kind::pytorch_default:
      return {uniform, 1 / std::sqrt(fan_in(init, shape))};
    case Kind::zeros:
    case Kind::constant:
      break;
  }
  SINEW_FAIL("initialize", "kind ", static_cast<int>(init.kind), " draws nothing");
}

}  // namespace

void initialize(const Initializer& init, const Shape& shape, const RngKey& key, VecView out) {
  SINEW_CHECK(out.size == shape.numel(), "initialize", out.size, " elements for a shape ", shape);
  SINEW_CHECK(is_float(out.dtype), "initialize", "type ", to_string(out.dtype), " is not one of f32, f64");
  if (init.kind == Kind::zeros || init.kind == Kind::constant) {
    fill(out, init.kind == Kind::zeros ? 0 : init.value);
    return;
  }
  Draw draw = draw_of(init, shape);
  if (out.size == 0) return;
  bool on_host = out.device == Device::cpu;
  Vec staging = on_host ? Vec() : Vec::empty(out.size, out.dtype);
  VecView host = on_host ? out : staging.mutable_view();
  double low = draw.dist == RandomDist::uniform ? -draw.scale : 0;
  cpu_kernels().random({draw.dist, out.dtype, out.size, key, host.data, low, draw.scale});
  if (!on_host) upload(host.data, out);
}

std::vector<std::string> initializer_names() { return names_of(kNamed); }

Initializer initializer_named(const std::string& name) { return entry_named(kNamed, name, "initializer"); }

}  // namespace sinew::nn
