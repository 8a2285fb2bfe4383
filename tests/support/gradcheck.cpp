#include "tests/support/gradcheck.h"

#include <algorithm>
#include <cmath>

#include "core/autograd.h"
#include "core/ops.h"

namespace sinew::testing {
namespace {

using Values = std::vector<double>;

RngKey key(uint32_t stream) { return {7, static_cast<uint32_t>(RngPurpose::test), stream, 0}; }

std::vector<Tensor> leaves(const std::vector<Tensor>& inputs) {
  std::vector<Tensor> out;
  for (const Tensor& t : inputs) out.push_back(is_float(t.dtype()) ? t.detach().set_requires_grad() : t);
  return out;
}
std::vector<Tensor> floats(const std::vector<Tensor>& tensors) {
  std::vector<Tensor> out;
  for (const Tensor& t : tensors)
    if (is_float(t.dtype())) out.push_back(t);
  return out;
}
// The inputs with one step of size `step` along the flattened directions.
std::vector<Tensor> moved(const std::vector<Tensor>& inputs, const std::vector<Tensor>& along, double step) {
  std::vector<Tensor> out;
  size_t k = 0;
  for (const Tensor& t : inputs) {
    if (!is_float(t.dtype())) {
      out.push_back(t);
      continue;
    }
    out.push_back(add(t.detach(), affine(along[k++].detach(), step, 0)));
  }
  return out;
}
Values flat(const std::vector<Tensor>& tensors) {
  Values all;
  for (const Tensor& t : tensors)
    for (double v : values(t)) all.push_back(v);
  return all;
}
std::vector<Tensor> directions(const std::vector<Tensor>& inputs, uint32_t stream) {
  std::vector<Tensor> out;
  for (const Tensor& t : floats(inputs))
    out.push_back(random_normal(t.shape(), 0, 1, key(stream++), t.dtype(), t.device()));
  return out;
}
Tensor scalar(const TensorFn& f, const std::vector<Tensor>& inputs) {
  const Tensor y = f(inputs);
  return sum(y * random_normal(y.shape(), 0, 1, key(9000), y.dtype(), y.device()));
}
std::vector<Tensor> gradient(const TensorFn& f, const std::vector<Tensor>& x, bool create_graph) {
  return grad({scalar(f, x)}, floats(x), {}, {.create_graph = create_graph});
}
// Gradients that depend on nothing are constants and have a zero Hessian: keep those that are on the graph.
std::vector<Tensor> again(const std::vector<Tensor>& g, const std::vector<Tensor>& v, const std::vector<Tensor>& x,
                          bool create_graph) {
  std::vector<Tensor> outputs, cotangents;
  for (size_t i = 0; i < g.size(); ++i)
    if (g[i].requires_grad()) outputs.push_back(g[i]), cotangents.push_back(v[i]);
  if (outputs.empty()) {
    std::vector<Tensor> zeros;
    for (const Tensor& t : floats(x)) zeros.push_back(Tensor::zeros(t.shape(), t.dtype(), t.device()));
    return zeros;
  }
  return grad(outputs, floats(x), cotangents, {.create_graph = create_graph});
}
std::vector<Tensor> hvp(const TensorFn& f, const std::vector<Tensor>& x, const std::vector<Tensor>& v,
                        bool create_graph) {
  return again(gradient(f, x, true), v, x, create_graph);
}
double inner(const std::vector<Tensor>& a, const std::vector<Tensor>& b) {
  const Values u = flat(a), v = flat(b);
  double total = 0;
  for (size_t i = 0; i < u.size(); ++i) total += u[i] * v[i];
  return total;
}
::testing::AssertionResult compare(const char* what, const Values& got, const Values& want, double tolerance) {
  if (got.size() != want.size())
    return ::testing::AssertionFailure() << what << ": " << got.size() << " values, expected " << want.size();
  double scale = 1e-3;
  for (double w : want) scale = std::max(scale, std::abs(w));
  for (size_t i = 0; i < want.size(); ++i)
    if (!(std::abs(got[i] - want[i]) <= tolerance * scale))
      return ::testing::AssertionFailure() << what << "[" << i << "] is " << got[i] << ", central difference "
                                           << want[i] << " (largest " << scale << ")";
  return ::testing::AssertionSuccess();
}
Values difference(const Values& plus, const Values& minus, double step) {
  Values out(plus.size());
  for (size_t i = 0; i < plus.size(); ++i) out[i] = (plus[i] - minus[i]) / (2 * step);
  return out;
}
constexpr double kStep = 1e-5;

}  // namespace

Tensor random_input(const Shape& shape, uint32_t stream, double low, double high, Device device) {
  return random_uniform(shape, low, high, key(stream), DType::f64, device);
}
std::vector<double> values(const Tensor& t) { return to_doubles(t.view()); }

::testing::AssertionResult near(const std::vector<double>& a, const std::vector<double>& b, double tolerance) {
  if (a.size() != b.size()) return ::testing::AssertionFailure() << a.size() << " values, expected " << b.size();
  for (size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= tolerance * std::max(1.0, std::abs(b[i]))))
      return ::testing::AssertionFailure() << "[" << i << "] " << a[i] << " != " << b[i];
  return ::testing::AssertionSuccess();
}

::testing::AssertionResult check_gradient(const TensorFn& f, const std::vector<Tensor>& inputs, double tolerance) {
  const std::vector<Tensor> x = leaves(inputs);
  const Values got = flat(gradient(f, x, false));
  Values want;
  size_t k = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (!is_float(inputs[i].dtype())) continue;
    for (int64_t j = 0; j < inputs[i].numel(); ++j, ++k) {
      Values unit(static_cast<size_t>(inputs[i].numel()));
      unit[static_cast<size_t>(j)] = 1;
      auto at = [&](double step) {
        std::vector<Tensor> p = inputs;
        p[i] =
            add(inputs[i].detach(), affine(Tensor::from_vector(unit, inputs[i].shape(), inputs[i].device()), step, 0));
        return values(scalar(f, p))[0];
      };
      want.push_back((at(kStep) - at(-kStep)) / (2 * kStep));
    }
  }
  return compare("gradient", got, want, tolerance);
}

::testing::AssertionResult check_hvp(const TensorFn& f, const std::vector<Tensor>& inputs, double tolerance) {
  const std::vector<Tensor> v = directions(inputs, 100);
  const Values got = flat(hvp(f, leaves(inputs), v, false));
  auto at = [&](double step) { return flat(gradient(f, leaves(moved(inputs, v, step)), false)); };
  return compare("Hv", got, difference(at(kStep), at(-kStep), kStep), tolerance);
}

::testing::AssertionResult check_hessian_symmetry(const TensorFn& f, const std::vector<Tensor>& inputs,
                                                  double tolerance) {
  const std::vector<Tensor> u = directions(inputs, 200), v = directions(inputs, 300);
  const double uhv = inner(u, hvp(f, leaves(inputs), v, false)), vhu = inner(v, hvp(f, leaves(inputs), u, false));
  const double scale = std::max({1.0, std::abs(uhv), std::abs(vhu)});
  if (std::abs(uhv - vhu) <= tolerance * scale) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "u'Hv = " << uhv << ", v'Hu = " << vhu;
}

::testing::AssertionResult check_third_order(const TensorFn& f, const std::vector<Tensor>& inputs, double tolerance) {
  const std::vector<Tensor> u = directions(inputs, 400), v = directions(inputs, 500);
  const std::vector<Tensor> x = leaves(inputs);
  const Values got = flat(again(hvp(f, x, v, true), u, x, false));
  auto at = [&](double step) { return flat(hvp(f, leaves(moved(inputs, u, step)), v, false)); };
  return compare("third derivative", got, difference(at(kStep), at(-kStep), kStep), tolerance);
}

}  // namespace sinew::testing
