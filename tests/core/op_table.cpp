#include "tests/core/op_table.h"

#include "core/ops.h"

namespace sinew::testing {
namespace {
using In = const std::vector<Tensor>&;
const RngKey kKey{3, static_cast<uint32_t>(RngPurpose::test), 0, 0};
}  // namespace

const std::vector<OpRow>& op_table() {
  static const std::vector<OpRow> table = {
      // elementwise
      {"affine", [](In x) { return affine(x[0], 2.5, -1) * x[0]; }, {{3, 5}}},
      {"abs", [](In x) { return abs(x[0]) * x[0]; }, {{3, 5}}, 0.2, 1},
      {"exp", [](In x) { return exp(x[0]); }, {{3, 5}}, -1, 1, true},
      {"log", [](In x) { return log(x[0]); }, {{3, 5}}, 0.5, 2, true},
      {"sqrt", [](In x) { return sqrt(x[0]); }, {{3, 5}}, 0.5, 2, true},
      {"reciprocal", [](In x) { return reciprocal(x[0]); }, {{3, 5}}, 0.5, 2, true},
      {"square", [](In x) { return square(x[0]); }, {{3, 5}}},
      {"pow", [](In x) { return pow(x[0], 2.7); }, {{3, 5}}, 0.5, 2, true},
      {"sin", [](In x) { return sin(x[0]); }, {{3, 5}}, -1, 1, true},
      {"cos", [](In x) { return cos(x[0]); }, {{3, 5}}, -1, 1, true},
      {"tanh", [](In x) { return tanh(x[0]); }, {{3, 5}}, -1, 1, true},
      {"sigmoid", [](In x) { return sigmoid(x[0]); }, {{3, 5}}, -1, 1, true},
      {"softplus", [](In x) { return softplus(x[0]); }, {{3, 5}}, -1, 1, true},
      {"relu", [](In x) { return relu(x[0]) * relu(x[0]); }, {{3, 5}}, 0.1, 1},
      {"relu_negative", [](In x) { return relu(x[0]) + square(x[0]); }, {{3, 5}}, -1, -0.1},
      {"sign", [](In x) { return sign(x[0]) * square(x[0]); }, {{3, 5}}, 0.1, 1},
      {"step", [](In x) { return step(x[0]) * square(x[0]); }, {{3, 5}}, 0.1, 1},
      {"add", [](In x) { return square(add(x[0], x[1])); }, {{3, 5}, {3, 5}}},
      {"add_broadcast", [](In x) { return square(add(x[0], x[1])); }, {{3, 1, 4}, {5, 1}}},
      {"sub", [](In x) { return square(sub(x[0], x[1])); }, {{3, 5}, {5}}},
      {"mul", [](In x) { return mul(x[0], square(x[1])); }, {{3, 5}, {3, 1}}, -1, 1, true},
      {"mul_scalar", [](In x) { return mul(square(x[0]), x[1]); }, {{3, 5}, {}}},
      {"div", [](In x) { return div(x[0], x[1]); }, {{3, 5}, {5}}, 0.5, 2, true},
      {"maximum", [](In x) { return square(maximum(x[0], affine(x[1], 1, 3))); }, {{3, 5}, {3, 5}}},
      {"minimum", [](In x) { return square(minimum(x[0], affine(x[1], 1, 3))); }, {{3, 5}, {5}}},
      {"greater", [](In x) { return greater(x[0], affine(x[1], 1, 3)) * x[0] + square(x[1]); }, {{3, 5}, {3, 5}}},
      {"equal", [](In x) { return equal(x[0], x[0]) * square(x[0]); }, {{3, 5}}},
      {"add_relu", [](In x) { return square(add_relu(x[0], x[1])); }, {{3, 5}, {3, 5}}},
      {"add_relu_broadcast", [](In x) { return exp(add_relu(x[0], x[1])); }, {{3, 5}, {5}}, -1, 1, true},
      {"relu_grad", [](In x) { return relu_grad(square(x[0]), x[1]); }, {{3, 5}, {3, 5}}, 0.1, 1},
      {"tanh_grad", [](In x) { return tanh_grad(square(x[0]), x[1]); }, {{3, 5}, {3, 5}}},
      {"sigmoid_grad", [](In x) { return sigmoid_grad(square(x[0]), x[1]); }, {{3, 5}, {3, 5}}},
      {"where", [](In x) { return where(step(x[0]), square(x[1]), x[2] * x[1]); }, {{3, 5}, {3, 5}, {3, 5}}, 0.1, 1},
      {"cast", [](In x) { return square(cast(x[0], x[0].dtype())); }, {{3, 5}}},
      // shape
      {"reshape",
       [](In x) {
         return square(reshape(x[0], {5, 3}));
       },
       {{3, 5}}},
      {"reshape_infer",
       [](In x) {
         return square(reshape_infer(x[0], {2, -1}));
       },
       {{4, 5}}},
      {"flatten", [](In x) { return square(flatten(x[0])); }, {{2, 3, 4}}},
      {"permute",
       [](In x) {
         return square(permute(x[0], {2, 0, 1}));
       },
       {{2, 3, 4}}},
      {"permute4",
       [](In x) {
         return square(permute(x[0], {0, 3, 1, 2}));
       },
       {{2, 3, 2, 4}}},
      {"transpose", [](In x) { return matmul(transpose(x[0]), x[0]); }, {{3, 4}}},
      {"broadcast_to",
       [](In x) {
         return square(broadcast_to(x[0], {2, 3, 4}));
       },
       {{3, 1}}},
      {"sum_to",
       [](In x) {
         return square(sum_to(x[0], {3, 1}));
       },
       {{2, 3, 4}}},
      {"slice", [](In x) { return square(slice(x[0], 1, 3)); }, {{4, 3}}},
      {"pad", [](In x) { return square(pad(x[0], 2, 1)); }, {{2, 3}}},
      {"slice_axis", [](In x) { return square(slice_axis(x[0], 1, 1, 5, 2)); }, {{2, 6, 3}}},
      {"slice_axis_last", [](In x) { return square(slice_axis(x[0], -1, 0, 3)); }, {{2, 4}}},
      {"spread_axis", [](In x) { return square(spread_axis(x[0], 1, 1, 6, 2)); }, {{2, 3, 2}}},
      {"pad_axis", [](In x) { return square(pad_axis(x[0], -1, 2, 1)); }, {{2, 3}}},
      {"concat", [](In x) { return square(concat(x[0], square(x[1]), 1)); }, {{2, 3, 2}, {2, 1, 2}}},
      // reductions
      {"sum", [](In x) { return square(sum(x[0])); }, {{3, 5}}},
      {"sum_rows", [](In x) { return square(sum(x[0], {0})); }, {{3, 5}}},
      {"sum_middle", [](In x) { return square(sum(x[0], {1})); }, {{2, 3, 4}}},
      {"sum_two_axes",
       [](In x) {
         return square(sum(x[0], {0, 2}, true));
       },
       {{2, 3, 4}}},
      {"mean", [](In x) { return square(mean(x[0], {-1})); }, {{3, 5}}},
      {"max", [](In x) { return square(max(x[0], {1})); }, {{3, 5}}},
      {"max_all", [](In x) { return square(max(x[0])); }, {{3, 5}}},
      // products
      {"matmul", [](In x) { return matmul(x[0], tanh(x[1])); }, {{3, 4}, {4, 5}}, -1, 1, true},
      {"matmul_ta", [](In x) { return matmul(x[0], tanh(x[1]), true, false); }, {{4, 3}, {4, 5}}},
      {"matmul_tb", [](In x) { return matmul(tanh(x[0]), x[1], false, true); }, {{3, 4}, {5, 4}}},
      {"matmul_ta_tb", [](In x) { return matmul(x[0], x[1], true, true); }, {{4, 3}, {5, 4}}},
      {"matmul_batch", [](In x) { return matmul(x[0], x[1], false, true); }, {{2, 3, 4}, {2, 5, 4}}},
      {"linear", [](In x) { return square(linear(x[0], x[1], x[2])); }, {{3, 4}, {5, 4}, {5}}},
      {"linear_relu", [](In x) { return square(linear(x[0], x[1], x[2], Activation::relu)); }, {{3, 4}, {5, 4}, {5}}},
      {"linear_tanh",
       [](In x) { return linear(x[0], x[1], x[2], Activation::tanh); },
       {{3, 4}, {5, 4}, {5}},
       -1,
       1,
       true},
      {"linear_sigmoid", [](In x) { return linear(x[0], x[1], Tensor(), Activation::sigmoid); }, {{3, 4}, {5, 4}}},
      // convolution: cubic functions, so that third derivatives do not vanish
      {"conv2d", [](In x) { return conv2d(x[0], square(x[1])); }, {{2, 4, 5, 2}, {3, 3, 2, 2}}, -1, 1, true},
      {"conv2d_stride",
       [](In x) {
         return square(conv2d(x[0], x[1], {2, 1, 1, 0}));
       },
       {{2, 5, 4, 2}, {3, 3, 2, 2}}},
      {"conv2d_wide_padding",
       [](In x) {
         return square(conv2d(x[0], x[1], {1, 2, 2, 2}));
       },
       {{1, 3, 2, 1}, {2, 2, 3, 1}}},
      {"conv2d_filter_larger_than_x",
       [](In x) {
         return square(conv2d(x[0], x[1], {2, 2, 2, 1}));
       },
       {{2, 2, 3, 1}, {2, 5, 5, 1}}},
      {"conv2d_stride_beyond_filter",
       [](In x) {
         return square(conv2d(x[0], x[1], {3, 2, 0, 0}));
       },
       {{2, 6, 5, 2}, {3, 2, 1, 2}}},
      {"conv2d_bias",
       [](In x) {
         return square(conv2d(x[0], x[1], x[2], Activation::none, {2, 2, 1, 1}));
       },
       {{2, 3, 4, 2}, {3, 3, 3, 2}, {3}}},
      {"conv2d_bias_relu",
       [](In x) {
         return square(conv2d(x[0], x[1], x[2], Activation::relu, {1, 1, 1, 1}));
       },
       {{2, 3, 4, 2}, {3, 3, 3, 2}, {3}}},
      {"conv2d_relu",
       [](In x) { return square(conv2d(x[0], x[1], Tensor(), Activation::relu)); },
       {{2, 3, 4, 2}, {3, 1, 1, 2}}},
      {"conv2d_bias_tanh",
       [](In x) {
         return conv2d(x[0], x[1], x[2], Activation::tanh, {1, 1, 1, 0});
       },
       {{1, 3, 3, 2}, {2, 3, 2, 2}, {2}},
       -1,
       1,
       true},
      {"conv2d_bias_sigmoid",
       [](In x) { return conv2d(x[0], x[1], x[2], Activation::sigmoid); },
       {{1, 3, 3, 2}, {2, 2, 2, 2}, {2}}},
      {"conv2d_dx",
       [](In x) {
         return conv2d_dx(square(x[0]), x[1], 4, 5, {1, 1, 1, 1});
       },
       {{2, 4, 5, 3}, {3, 3, 3, 2}},
       -1,
       1,
       true},
      {"conv2d_dx_stride",  // the last row and column of x reach no output
       [](In x) {
         return square(conv2d_dx(x[0], x[1], 6, 5, {2, 3, 1, 0}));
       },
       {{2, 3, 2, 3}, {3, 3, 2, 2}}},
      {"conv2d_dx_wide_padding",
       [](In x) {
         return square(conv2d_dx(x[0], x[1], 2, 3, {1, 2, 2, 2}));
       },
       {{1, 5, 4, 2}, {2, 2, 1, 1}}},
      {"conv2d_dw",
       [](In x) {
         return conv2d_dw(x[0], square(x[1]), 3, 3, {1, 1, 1, 1});
       },
       {{2, 4, 5, 2}, {2, 4, 5, 3}},
       -1,
       1,
       true},
      {"conv2d_dw_stride",
       [](In x) {
         return square(conv2d_dw(x[0], x[1], 3, 2, {2, 3, 1, 0}));
       },
       {{2, 6, 5, 2}, {2, 3, 2, 3}}},
      {"conv2d_dw_wide_padding",
       [](In x) {
         return square(conv2d_dw(x[0], x[1], 2, 1, {1, 2, 2, 2}));
       },
       {{1, 2, 3, 1}, {1, 5, 4, 2}}},
      // indexing
      {"gather", [](In x) { return square(gather(x[0], x[1])); }, {{4, 3}}, -1, 1, false, {{2, 0, 2}}},
      {"scatter_add", [](In x) { return square(scatter_add(x[0], x[1], 4)); }, {{3, 3}}, -1, 1, false, {{2, 0, 2}}},
      {"one_hot",
       [](In x) { return square(x[0]) * one_hot(x[1], 3, x[0].dtype()); },
       {{3, 3}},
       -1,
       1,
       false,
       {{2, 0, 2}}},
      // softmax and losses
      {"softmax", [](In x) { return softmax(x[0]); }, {{3, 5}}, -1, 1, true},
      {"log_softmax", [](In x) { return log_softmax(x[0]); }, {{3, 5}}, -1, 1, true},
      {"softmax_cross_entropy",
       [](In x) { return softmax_cross_entropy(x[0], x[1]); },
       {{3, 5}},
       -1,
       1,
       true,
       {{2, 0, 4}}},
      {"softmax_cross_entropy_composite",
       [](In x) { return softmax_cross_entropy_composite(x[0], x[1]); },
       {{3, 5}},
       -1,
       1,
       true,
       {{2, 0, 4}}},
      {"softmax_cross_entropy_grad",
       [](In x) { return softmax_cross_entropy_grad(sum(x[1]), x[0], x[2]); },
       {{3, 5}, {2}},
       -1,
       1,
       true,
       {{2, 0, 4}}},
      {"nll_loss", [](In x) { return square(nll_loss(tanh(x[0]), x[1])); }, {{3, 5}}, -1, 1, true, {{2, 0, 4}}},
      {"mse", [](In x) { return mse(tanh(x[0]), x[1]); }, {{3, 5}, {3, 5}}},
      // pooling: distinct values far apart, so that no step changes a maximum
      {"max_pool2d", [](In x) { return square(max_pool2d(x[0], {2, 2, 0})); }, {{2, 5, 4, 3}}},
      {"max_pool2d_overlapping", [](In x) { return exp(max_pool2d(x[0], {3, 2, 1})); }, {{2, 5, 6, 2}}, -1, 1, true},
      {"max_pool2d_gather",
       [](In x) { return square(max_pool2d_gather(x[0], max_pool2d_places(x[1], {3, 2, 1}), {3, 2, 1})); },
       {{2, 5, 6, 2}, {2, 5, 6, 2}}},
      {"max_pool2d_scatter",
       [](In x) { return square(max_pool2d_scatter(x[0], max_pool2d_places(x[1], {3, 2, 1}), 5, 6, {3, 2, 1})); },
       {{2, 3, 3, 2}, {2, 5, 6, 2}}},
      {"avg_pool2d", [](In x) { return square(avg_pool2d(x[0], {2, 2, 0})); }, {{2, 5, 4, 3}}},
      {"avg_pool2d_overlapping", [](In x) { return exp(avg_pool2d(x[0], {3, 2, 1})); }, {{2, 5, 6, 2}}, -1, 1, true},
      {"avg_pool2d_grad", [](In x) { return square(avg_pool2d_grad(x[0], 5, 6, {3, 2, 1})); }, {{2, 3, 3, 2}}},
      // normalisation
      {"batch_norm", [](In x) { return batch_norm(x[0], x[1], x[2]).y; }, {{3, 2, 2, 3}, {3}, {3}}, -1, 1, true},
      {"batch_norm_relu",
       [](In x) { return batch_norm(x[0], x[1], x[2], Tensor(), Activation::relu).y; },
       {{3, 2, 2, 3}, {3}, {3}},
       -1,
       1,
       true},
      {"batch_norm_residual",
       [](In x) { return batch_norm(x[0], x[1], x[2], x[3], Activation::none, 0.1).y * x[3]; },
       {{7, 3}, {3}, {3}, {7, 3}},
       -1,
       1,
       true},
      {"batch_norm_residual_relu",
       [](In x) { return square(batch_norm(x[0], x[1], x[2], x[3], Activation::relu, 0.1).y); },
       {{7, 3}, {3}, {3}, {7, 3}},
       -1,
       1,
       true},
      {"batch_norm_composite",
       [](In x) { return batch_norm_composite(x[0], x[1], x[2], x[3], Activation::relu); },
       {{7, 3}, {3}, {3}, {7, 3}},
       -1,
       1,
       true},
      {"channel_affine",
       [](In x) { return channel_affine(x[0], x[1], tanh(x[2]), x[3]); },
       {{3, 2, 2, 3}, {3}, {3}, {3}},
       -1,
       1,
       true},
      {"channel_affine_residual_relu",
       [](In x) { return square(channel_affine(x[0], x[1], x[2], x[3], x[4], Activation::relu)); },
       {{7, 3}, {3}, {3}, {3}, {7, 3}}},
      {"layer_norm", [](In x) { return layer_norm(x[0], x[1], x[2]); }, {{3, 2, 5}, {5}, {5}}, -1, 1, true},
      {"layer_norm_vector", [](In x) { return layer_norm(x[0], x[1], x[2], 0.1); }, {{5}, {5}, {5}}, -1, 1, true},
      {"layer_norm_composite",
       [](In x) { return layer_norm_composite(x[0], x[1], x[2]); },
       {{3, 2, 5}, {5}, {5}},
       -1,
       1,
       true},
      // random
      {"dropout", [](In x) { return square(dropout(x[0], 0.4, kKey)); }, {{5, 5}}},
  };
  return table;
}

std::vector<Tensor> op_inputs(const OpRow& row, DType dtype, Device device) {
  return op_inputs(row, std::vector<DType>(row.shapes.size(), dtype), device);
}

std::vector<Tensor> op_inputs(const OpRow& row, const std::vector<DType>& dtypes, Device device) {
  std::vector<Tensor> inputs;
  uint32_t stream = 1;
  for (const Shape& shape : row.shapes) {
    const Tensor x = random_input(shape, stream, row.low, row.high, device);
    inputs.push_back(cast(x, dtypes[stream++ - 1]));
  }
  for (const auto& index : row.indices)
    inputs.push_back(Tensor::from_vector(index, {static_cast<int64_t>(index.size())}, device));
  return inputs;
}

std::optional<std::vector<DType>> bf16_types(const OpRow& row) {
  // By the beginning of the name, the first that fits: b is bf16, f is f32, - refuses bf16. The others take only bf16.
  static const std::pair<const char*, const char*> kFamilies[] = {
      {"matmul", "bf"},
      {"linear", "bff"},
      {"conv2d_dw", "bb"},
      {"conv2d_dx", "bf"},
      {"conv2d", "bff"},
      {"batch_norm_composite", "-"},
      {"batch_norm", "bffb"},
      {"channel_affine", "bfffb"},
      {"layer_norm_composite", "-"},
      {"layer_norm", "bff"},
      {"softmax", "-"},
      {"log_softmax", "-"},
      {"one_hot", "-"},
      {"nll_loss", "-"},
      {"mse", "-"},
  };
  for (const auto& [name, letters] : kFamilies) {
    if (!row.name.starts_with(name)) continue;
    if (*letters == '-') return std::nullopt;
    std::vector<DType> types;
    for (size_t i = 0; i < row.shapes.size(); ++i) types.push_back(letters[i] == 'b' ? DType::bf16 : DType::f32);
    return types;
  }
  return std::vector<DType>(row.shapes.size(), DType::bf16);
}

}  // namespace sinew::testing
