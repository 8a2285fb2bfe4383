// Every differentiable operation. Shapes are NumPy's conventions, row-major; all operands of one op share one
// type and one device. Every op throws Error with its name and the offending shapes. Derivatives are of
// any order unless an op says otherwise. Where each op lives: core/ops/*.cpp, one family a file.
//
// bf16 is for what flows through a network; what is learned or summed up stays f32. So a sum of bf16 is f32; filters,
// weights, biases and the vectors of the normalisations are f32 beside bf16 images and activations, and so are their
// cotangents. Of two operands of a product, one bf16 and one f32 make bf16, two bf16 make f32: the families stay closed
// under differentiation. Softmax and losses, one_hot and the *_composite take no bf16.
//
// Thread safety: pure functions.
#pragma once

#include <initializer_list>
#include <vector>

#include "core/kernel_api.h"
#include "core/tensor.h"

namespace sinew {

// ---- elementwise (floats) ----
Tensor affine(const Tensor& x, double scale, double shift);  // scale * x + shift
inline Tensor neg(const Tensor& x) { return affine(x, -1, 0); }
Tensor abs(const Tensor& x);
Tensor exp(const Tensor& x);
Tensor log(const Tensor& x);
Tensor sqrt(const Tensor& x);
Tensor reciprocal(const Tensor& x);
Tensor square(const Tensor& x);
Tensor pow(const Tensor& x, double exponent);
Tensor sin(const Tensor& x);
Tensor cos(const Tensor& x);
Tensor tanh(const Tensor& x);
Tensor sigmoid(const Tensor& x);
Tensor softplus(const Tensor& x);
Tensor relu(const Tensor& x);  // derivative 0 at 0
Tensor sign(const Tensor& x);  // derivative 0
Tensor step(const Tensor& x);  // 1 where x > 0; derivative 0

// ---- elementwise, two operands, broadcasting ----
Tensor add(const Tensor& a, const Tensor& b);
Tensor sub(const Tensor& a, const Tensor& b);
Tensor mul(const Tensor& a, const Tensor& b);
Tensor div(const Tensor& a, const Tensor& b);
Tensor maximum(const Tensor& a, const Tensor& b);  // at ties the derivative goes to b
Tensor minimum(const Tensor& a, const Tensor& b);  // at ties the derivative goes to b
Tensor greater(const Tensor& a, const Tensor& b);  // 0 or 1 in the operands' type; derivative 0
Tensor equal(const Tensor& a, const Tensor& b);
Tensor add_relu(const Tensor& a, const Tensor& b);  // relu(a + b)
// First derivatives as ops of their own, (g, y): g where y > 0; g (1 - y^2); g y (1 - y).
Tensor relu_grad(const Tensor& g, const Tensor& y);
Tensor tanh_grad(const Tensor& g, const Tensor& y);
Tensor sigmoid_grad(const Tensor& g, const Tensor& y);
Tensor where(const Tensor& mask, const Tensor& a,
             const Tensor& b);  // one shape, mask in the same type, no derivative to it

inline Tensor operator+(const Tensor& a, const Tensor& b) { return add(a, b); }
inline Tensor operator-(const Tensor& a, const Tensor& b) { return sub(a, b); }
inline Tensor operator*(const Tensor& a, const Tensor& b) { return mul(a, b); }
inline Tensor operator/(const Tensor& a, const Tensor& b) { return div(a, b); }
inline Tensor operator-(const Tensor& a) { return neg(a); }
inline Tensor operator*(double s, const Tensor& a) { return affine(a, s, 0); }
inline Tensor operator*(const Tensor& a, double s) { return affine(a, s, 0); }
inline Tensor operator+(const Tensor& a, double s) { return affine(a, 1, s); }

// Another element type; differentiable between floats and bf16.
Tensor cast(const Tensor& x, DType dtype);

// ---- shape ----
Tensor reshape(const Tensor& x, const Shape& shape);  // same memory; one extent may be -1 through reshape_infer
Tensor reshape_infer(const Tensor& x, std::initializer_list<int64_t> dims);
Tensor flatten(const Tensor& x);  // (n, ...) -> (n, rest)
Tensor permute(const Tensor& x, std::initializer_list<int> axes);
Tensor transpose(const Tensor& x);  // of a matrix
Tensor broadcast_to(const Tensor& x, const Shape& shape);
Tensor slice(const Tensor& x, int64_t begin, int64_t end);   // rows [begin, end) of axis 0
Tensor pad(const Tensor& x, int64_t before, int64_t after);  // zero rows on axis 0
// Elements begin, begin + step, ... below end of an axis.
Tensor slice_axis(const Tensor& x, int axis, int64_t begin, int64_t end, int64_t step = 1);
// Its transpose: `extent` zeros along the axis, with x's elements at begin, begin + step, ...
Tensor spread_axis(const Tensor& x, int axis, int64_t begin, int64_t extent, int64_t step = 1);
Tensor pad_axis(const Tensor& x, int axis, int64_t before, int64_t after);  // with zeros
Tensor concat(const Tensor& a, const Tensor& b, int axis);

// ---- reductions ----
// Over the given axes (empty: all). keepdims leaves extents of 1.
Tensor sum(const Tensor& x, std::vector<int> axes = {}, bool keepdims = false);
Tensor mean(const Tensor& x, std::vector<int> axes = {}, bool keepdims = false);
Tensor max(const Tensor& x, std::vector<int> axes = {}, bool keepdims = false);  // ties share the derivative equally
Tensor sum_to(const Tensor& x, const Shape& shape);                              // the transpose of broadcast_to
Tensor argmax(const Tensor& x, int axis);                                        // i64, no derivative

// ---- matrix products (floats) ----
// op(a) op(b) for matrices (m, k), (k, n), or batches (b, m, k), (b, k, n); a flag means the operand is stored
// transposed.
Tensor matmul(const Tensor& a, const Tensor& b, bool trans_a = false, bool trans_b = false);
// act(x w^T + bias): x (n, in), w (out, in), bias (out) or undefined. Fused; its derivative is made of public ops.
Tensor linear(const Tensor& x, const Tensor& w, const Tensor& bias, Activation act = Activation::none);

// ---- convolution (floats) ----
struct ConvOptions {
  int64_t stride_h = 1, stride_w = 1;
  int64_t pad_h = 0, pad_w = 0;  // zero rows and columns on both sides
};
// As networks use the word: a correlation, dilation 1, one group. x (n, h, w, c), w (k, r, s, c) ->
// y (n, (h + 2 pad_h - r) / stride_h + 1, likewise, k). The three are each other's derivatives.
Tensor conv2d(const Tensor& x, const Tensor& w, const ConvOptions& options = {});
// act(conv2d(x, w) + bias), bias (k) or undefined. Fused for none and relu; its derivative is made of public ops.
Tensor conv2d(const Tensor& x, const Tensor& w, const Tensor& bias, Activation act, const ConvOptions& options = {});
// The transposes. gy like conv2d's result; height and width are x's, rows and cols the filters'.
Tensor conv2d_dx(const Tensor& gy, const Tensor& w, int64_t height, int64_t width, const ConvOptions& options = {});
Tensor conv2d_dw(const Tensor& x, const Tensor& gy, int64_t rows, int64_t cols, const ConvOptions& options = {});

// ---- pooling (floats) ----
// x (n, h, w, c) -> (n, p, q, c) with p = floor((h + 2 padding - kernel) / stride) + 1, as PyTorch's MaxPool2d and
// AvgPool2d with ceil_mode = false. Padding is minus infinity for the maximum; for the average it is zero and counts
// (PyTorch's default count_include_pad = true). padding <= kernel / 2.
struct PoolOptions {
  int64_t kernel = 2, stride = 2, padding = 0;
};
Tensor max_pool2d(const Tensor& x, const PoolOptions& options);  // kernel <= 16; among equals the first has it all
Tensor avg_pool2d(const Tensor& x, const PoolOptions& options);
Tensor avg_pool2d_grad(const Tensor& g, int64_t height, int64_t width, const PoolOptions& options);  // the transpose
// The place, row by row, in its window (u8, no derivative) from which max_pool2d takes each value; x at those places;
// and the transpose of that, which is max_pool2d's derivative.
Tensor max_pool2d_places(const Tensor& x, const PoolOptions& options);
Tensor max_pool2d_gather(const Tensor& x, const Tensor& places, const PoolOptions& options);
Tensor max_pool2d_scatter(const Tensor& y, const Tensor& places, int64_t height, int64_t width,
                          const PoolOptions& options);

// ---- indexing ----
// index: i64 (n), values in [0, rows) (checked on the host for cpu tensors).
Tensor gather(const Tensor& x, const Tensor& index);                     // (rows, ...) -> (n, ...)
Tensor scatter_add(const Tensor& x, const Tensor& index, int64_t rows);  // (n, ...) -> (rows, ...)
Tensor one_hot(const Tensor& index, int64_t classes, DType dtype);       // (n) -> (n, classes), no derivative

// ---- softmax and losses ----
Tensor softmax(const Tensor& x);      // over the last axis
Tensor log_softmax(const Tensor& x);  // over the last axis
// mean_i( -log softmax(logits_i)[label_i] ); logits (n, c), labels i64 (n). Fused.
Tensor softmax_cross_entropy(const Tensor& logits, const Tensor& labels);
// The same from public ops: the fused op's oracle and its path to higher orders.
Tensor softmax_cross_entropy_composite(const Tensor& logits, const Tensor& labels);
// g * (softmax - onehot) / n for a scalar g: the fused op's first derivative.
Tensor softmax_cross_entropy_grad(const Tensor& g, const Tensor& logits, const Tensor& labels);
// -mean_i(log_probabilities[i, label_i]); (n, c), labels i64 (n). nll_loss(log_softmax(x), y) is
// softmax_cross_entropy(x, y).
Tensor nll_loss(const Tensor& log_probabilities, const Tensor& labels);
Tensor mse(const Tensor& prediction, const Tensor& target);  // mean of squared differences

// ---- normalisation ----
// Batch norm in training (Ioffe and Szegedy 2015): x (..., channels) is normalised over all axes but the last,
//   y = act((x - mean) / sqrt(variance + eps) * gamma + beta + residual)
// with the biased variance. act: none or relu. residual: x's shape or undefined. Fused, as are its first and second
// derivatives; higher orders go through public ops. Of bf16 data there is no second derivative. Throws Error when a
// channel has a single value.
struct BatchNorm {
  Tensor y;
  // Of this batch, (channels), not differentiable: running statistics are made of mean and variance, which is the
  // unbiased one (n / (n - 1)), as in PyTorch.
  Tensor mean, inv_std, variance;
};
BatchNorm batch_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& residual = Tensor(),
                     Activation act = Activation::none, double eps = 1e-5);
// y alone, from public ops: the fused op's oracle.
Tensor batch_norm_composite(const Tensor& x, const Tensor& gamma, const Tensor& beta, const Tensor& residual = Tensor(),
                            Activation act = Activation::none, double eps = 1e-5);
// act((x - center) * scale + shift + residual), vectors (channels): batch norm in evaluation, with
// scale = gamma / sqrt(running_var + eps). Fused; act and residual as above.
Tensor channel_affine(const Tensor& x, const Tensor& center, const Tensor& scale, const Tensor& shift,
                      const Tensor& residual = Tensor(), Activation act = Activation::none);

// Layer norm (Ba et al. 2016) over the last axis: (x - mean) / sqrt(variance + eps) * gamma + beta with the biased
// variance of each row; x (..., d), gamma and beta (d). Fused, as is its first derivative, which of bf16 data is all.
Tensor layer_norm(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps = 1e-5);
Tensor layer_norm_composite(const Tensor& x, const Tensor& gamma, const Tensor& beta, double eps = 1e-5);

// ---- random ----
// x / (1 - rate) where a counter-based draw keeps the element, else 0. Same key, same mask: the derivative
// and a second backward pass draw it again. rate in [0, 1).
Tensor dropout(const Tensor& x, double rate, const RngKey& key);
Tensor random_uniform(const Shape& shape, double low, double high, const RngKey& key, DType dtype = DType::f32,
                      Device device = Device::cpu);
Tensor random_normal(const Shape& shape, double mean, double stddev, const RngKey& key, DType dtype = DType::f32,
                     Device device = Device::cpu);
Tensor random_rademacher(const Shape& shape, const RngKey& key, DType dtype = DType::f32, Device device = Device::cpu);

}  // namespace sinew
