// Gradient and Hessian-vector product of ResNet-20 (models/zoo/resnet.cpp) with cross-entropy by forward over reverse,
// from public ops and kernels with recording off: what bench/train/hv.cpp compares with double backward. Pearlmutter
// 1994; rules: AdaHessian specification, section 2.5.
#pragma once

#include <chrono>
#include <utility>
#include <vector>

#include "core/autograd.h"
#include "core/ops.h"

namespace sinew::bench {

constexpr int kBlocks = 3;  // in each of ResNet-20's three layers
constexpr int64_t kClasses = 10;

// A value and its derivative along z; an undefined tangent is zero.
struct Dual {
  Tensor value, tangent;
};

// to += x, for a tensor that was just made.
inline void accumulate(const Tensor& to, const Tensor& x) { axpby(1, x.view(), 1, to.view(), to.output_view()); }
// A linear map of both.
template <class Map>
Dual apply(const Dual& x, Map map) {
  return {map(x.value), map(x.tangent)};
}

inline double tangent_norm_seconds = 0;  // spent in Norm::forward's second kernel

class Conv {
 public:
  Dual forward(Dual x, const Dual& filters, int64_t stride) {
    const Shape &image = x.value.shape(), &filter = filters.value.shape();
    args_ = {};
    args_.dtype = x.value.dtype();
    args_.n = image[0], args_.h = image[1], args_.w = image[2], args_.c = image[3];
    args_.k = filter[0], args_.r = filter[1], args_.s = filter[2];
    args_.stride_h = args_.stride_w = stride, args_.pad_h = args_.pad_w = args_.r / 2;
    args_.p = (args_.h - 1) / stride + 1, args_.q = (args_.w - 1) / stride + 1;
    x_ = std::move(x), filters_ = filters;
    Dual y{like(x_.value, {args_.n, args_.p, args_.q, args_.k}), like(x_.value, {args_.n, args_.p, args_.q, args_.k})};
    to_y(x_.value, filters_.value, y.value, false);
    to_y(x_.value, filters_.tangent, y.tangent, false);
    if (x_.tangent.defined()) to_y(x_.tangent, filters_.value, y.tangent, true);
    return y;
  }
  // Takes the cotangent of the result, leaves that of the filters, returns that of x unless x is constant.
  Dual reverse(const Dual& g, const Dual& to_filters) {
    to_filter(x_.value, g.value, to_filters.value);
    to_filter(x_.value, g.tangent, to_filters.tangent);
    const Dual x = std::exchange(x_, {});
    if (!x.tangent.defined()) return {};
    const Tensor other = like(to_filters.tangent, to_filters.tangent.shape());
    to_filter(x.tangent, g.value, other);
    accumulate(to_filters.tangent, other);
    Dual gx{like(x.value, x.value.shape()), like(x.value, x.value.shape())};
    to_x(g.value, filters_.value, gx.value, false);
    to_x(g.tangent, filters_.value, gx.tangent, false);
    to_x(g.value, filters_.tangent, gx.tangent, true);
    return gx;
  }

 private:
  static Tensor like(const Tensor& t, const Shape& shape) { return Tensor::empty(shape, t.dtype(), t.device()); }
  void to_y(const Tensor& x, const Tensor& filter, const Tensor& out, bool add) const {
    kernel::ConvArgs a = args_;
    a.x = x.data(), a.filter = filter.data(), a.out = out.data(), a.accumulate = add;
    kernels(x.device()).conv_forward(a);
  }
  void to_x(const Tensor& g, const Tensor& filter, const Tensor& out, bool add) const {
    kernel::ConvArgs a = args_;
    a.y = g.data(), a.filter = filter.data(), a.out = out.data(), a.accumulate = add;
    kernels(g.device()).conv_dx(a);
  }
  void to_filter(const Tensor& x, const Tensor& g, const Tensor& out) const {
    kernel::ConvArgs a = args_;
    a.x = x.data(), a.y = g.data(), a.out = out.data();
    kernels(x.device()).conv_dw(a);
  }

  kernel::ConvArgs args_{};
  Dual x_, filters_;
};

// relu(batch norm + residual). Its tangents come from the kernel of batch norm's second derivative: for the cotangents
// u of dx, a of dgamma, b of dbeta that gives the gradient of <g, J (u, a, b)>, J being the norm's Jacobian, with
// respect to g: J (u, a, b), the tangent of y; and with respect to (x, gamma): the Hessian of <g, y>, which is
// symmetric, times (u, a, b): the tangent of (dx, dgamma) while g stays. The kernel writes both whoever asks.
class Norm {
 public:
  Dual forward(Dual x, const Dual& gamma, const Dual& beta, const Dual& residual = {}) {
    x_ = std::move(x), gamma_ = gamma, beta_ = beta, has_residual_ = residual.value.defined();
    BatchNorm norm = batch_norm(x_.value, gamma.value, beta.value, residual.value, Activation::relu);
    mean_ = norm.mean, inv_std_ = norm.inv_std;
    y_ = {norm.y, like(x_.value)};
    const auto begin = std::chrono::steady_clock::now();
    // g is of no consequence here: x, which is being read anyway.
    second(true, x_.value, has_residual_ ? y_.value.data() : nullptr, has_residual_ ? residual.tangent.data() : nullptr,
           y_.tangent, like(x_.value), Tensor());
    tangent_norm_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    Dual y = y_;
    y_.tangent = Tensor();
    return y;
  }
  // Returns the cotangent of x and, where there is a residual, leaves its cotangent.
  Dual reverse(Dual g, const Dual& to_gamma, const Dual& to_beta, Dual* to_residual = nullptr) {
    Dual gx{like(x_.value), like(x_.value)}, through;
    if (has_residual_) through = {like(x_.value), like(x_.value)};
    first(g.value, gx.value, to_gamma.value, to_beta.value, through.value, false);
    const Tensor gamma2 = like(gamma_.value);
    second(!has_residual_, has_residual_ ? through.value : g.value, nullptr, nullptr, like(x_.value), gx.tangent,
           gamma2);
    first(g.tangent, gx.tangent, to_gamma.tangent, to_beta.tangent, through.tangent, true);
    accumulate(to_gamma.tangent, gamma2);
    if (to_residual) *to_residual = std::move(through);
    x_ = {};
    return gx;
  }

 private:
  static Tensor like(const Tensor& t) { return Tensor::empty(t.shape(), t.dtype(), t.device()); }
  int64_t channels() const { return x_.value.dim(3); }
  int64_t rows() const { return x_.value.numel() / channels(); }

  void first(const Tensor& g, const Tensor& gx, const Tensor& to_gamma, const Tensor& to_beta, const Tensor& through,
             bool add) {
    kernels(g.device())
        .batch_norm_grad({g.dtype(), true, rows(), channels(), g.data(), x_.value.data(),
                          has_residual_ ? y_.value.data() : nullptr, gamma_.value.data(), beta_.value.data(),
                          mean_.data(), inv_std_.data(), gx.data(), to_gamma.data(), to_beta.data(),
                          has_residual_ ? through.data() : nullptr, add});
  }
  void second(bool relu, const Tensor& g, const void* y, const void* r, const Tensor& g2, const Tensor& x2,
              const Tensor& gamma2) {
    kernels(g.device())
        .batch_norm_grad2({g.dtype(), relu, rows(), channels(), g.data(), x_.value.data(), y, gamma_.value.data(),
                           beta_.value.data(), mean_.data(), inv_std_.data(), x_.tangent.data(), gamma_.tangent.data(),
                           beta_.tangent.data(), r, g2.data(), x2.data(), gamma2.defined() ? gamma2.data() : nullptr});
  }

  Dual x_, gamma_, beta_, y_;  // y: the value alone, for the mask
  Tensor mean_, inv_std_;
  bool has_residual_ = false;
};

struct Block {
  Conv conv1, conv2;
  Norm norm1, norm2;
  int64_t stride, in, out;
};

class ForwardOverReverse {
 public:
  // Views of the parameters, in the order of the model's layout, and of the direction; where the gradient and the
  // product go.
  ForwardOverReverse(std::vector<Tensor> theta, std::vector<Tensor> z, std::vector<Tensor> gradient,
                     std::vector<Tensor> product)
      : theta_(std::move(theta)), z_(std::move(z)), gradient_(std::move(gradient)), product_(std::move(product)) {}

  void run(const Tensor& x, const Tensor& labels) {
    const GradMode off(false);
    Dual y = norm_.forward(conv_.forward({x, Tensor()}, parameter(0), 1), parameter(1), parameter(2));
    int at = 3;
    int64_t width = 16;
    for (int layer = 0; layer < 3; ++layer, width *= 2)
      for (int i = 0; i < kBlocks; ++i, at += 6) {
        blocks_.push_back({.stride = layer > 0 && i == 0 ? 2 : 1, .in = y.value.dim(3), .out = width});
        y = block_forward(blocks_.back(), std::move(y), at);
      }
    Dual g = head(std::move(y), labels, at);
    for (; !blocks_.empty(); blocks_.pop_back()) g = block_reverse(blocks_.back(), std::move(g), at -= 6);
    conv_.reverse(norm_.reverse(std::move(g), result(1), result(2)), result(0));
  }

 private:
  Dual parameter(int i) const { return {theta_[static_cast<size_t>(i)], z_[static_cast<size_t>(i)]}; }
  Dual result(int i) const { return {gradient_[static_cast<size_t>(i)], product_[static_cast<size_t>(i)]}; }

  // Parameters from `at` on: conv1, bn1 (2), conv2, bn2 (2).
  Dual block_forward(Block& b, Dual x, int at) const {
    const Dual shortcut = apply(x, [&](const Tensor& t) { return b.stride == 1 ? t : pixels(t, b.in, b.out); });
    Dual y = b.conv1.forward(std::move(x), parameter(at), b.stride);
    y = b.norm1.forward(std::move(y), parameter(at + 1), parameter(at + 2));
    y = b.conv2.forward(std::move(y), parameter(at + 3), 1);
    return b.norm2.forward(std::move(y), parameter(at + 4), parameter(at + 5), shortcut);
  }
  Dual block_reverse(Block& b, Dual g, int at) const {
    Dual through;
    g = b.norm2.reverse(std::move(g), result(at + 4), result(at + 5), &through);
    g = b.conv2.reverse(g, result(at + 3));
    g = b.norm1.reverse(std::move(g), result(at + 1), result(at + 2));
    g = b.conv1.reverse(g, result(at));
    if (b.stride > 1) through = apply(through, [&](const Tensor& t) { return spread(t, b.in, b.out); });
    accumulate(g.value, through.value);
    accumulate(g.tangent, through.tangent);
    return g;
  }
  // Option A's shortcut: every second pixel, zeros for the new channels; and its transpose.
  static Tensor pixels(const Tensor& x, int64_t in, int64_t out) {
    const Tensor rows = slice_axis(x, 1, 0, x.dim(1), 2), all = slice_axis(rows, 2, 0, x.dim(2), 2);
    return pad_axis(all, 3, (out - in) / 2, out - in - (out - in) / 2);
  }
  static Tensor spread(const Tensor& g, int64_t in, int64_t out) {
    const Tensor old = slice_axis(g, 3, (out - in) / 2, (out - in) / 2 + in);
    return spread_axis(spread_axis(old, 2, 0, 2 * g.dim(2), 2), 1, 0, 2 * g.dim(1), 2);
  }

  // Global average, linear layer, cross-entropy; returns the cotangent of x.
  Dual head(Dual x, const Tensor& labels, int at) const {
    const Shape map = x.value.shape();
    const Dual w = parameter(at), bias = parameter(at + 1), to_w = result(at), to_bias = result(at + 1);
    const Dual h = apply(x, [](const Tensor& t) { return mean(t, {1, 2}); });
    x = {};
    const Tensor p = softmax(linear(h.value, w.value, bias.value));
    const Tensor t = linear(h.tangent, w.value, bias.tangent) + matmul(h.value, w.tangent, false, true);
    const double share = 1.0 / static_cast<double>(map[0]);
    const Dual g{share * (p - one_hot(labels, kClasses, p.dtype())), (share * p) * (t - sum(p * t, {-1}, true))};
    copy(matmul(g.value, h.value, true, false).view(), to_w.value.output_view());
    copy((matmul(g.tangent, h.value, true, false) + matmul(g.value, h.tangent, true, false)).view(),
         to_w.tangent.output_view());
    copy(sum(g.value, {0}).view(), to_bias.value.output_view());
    copy(sum(g.tangent, {0}).view(), to_bias.tangent.output_view());
    const Dual gh{matmul(g.value, w.value), matmul(g.tangent, w.value) + matmul(g.value, w.tangent)};
    return apply(gh, [&](const Tensor& c) {
      const Tensor each = (1.0 / static_cast<double>(map[1] * map[2])) * c;
      return broadcast_to(reshape(each, {map[0], 1, 1, map[3]}), map);
    });
  }

  const std::vector<Tensor> theta_, z_, gradient_, product_;
  Conv conv_;
  Norm norm_;
  std::vector<Block> blocks_;
};

}  // namespace sinew::bench
