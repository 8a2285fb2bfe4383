// One scalar formula per elementwise operation, compiled by the CPU and the CUDA backends alike.
//
// Only plain arithmetic and the math functions of namespace fn. Everything is inline in a namespace that
// differs per translation-unit flavour (SINEW_FUNCTOR_NS): a kernel file compiled for AVX-512 must never
// hand its inline code to a file compiled for the baseline through the linker.
#pragma once

#include <math.h>
#include <stdint.h>

#include "core/host_device.h"

#ifndef SINEW_FUNCTOR_NS
#define SINEW_FUNCTOR_NS functor
#endif

namespace sinew::SINEW_FUNCTOR_NS {

namespace fn {
SINEW_HD float exp(float x) { return ::expf(x); }
SINEW_HD double exp(double x) { return ::exp(x); }
SINEW_HD float log(float x) { return ::logf(x); }
SINEW_HD double log(double x) { return ::log(x); }
SINEW_HD float log1p(float x) { return ::log1pf(x); }
SINEW_HD double log1p(double x) { return ::log1p(x); }
SINEW_HD float sqrt(float x) { return ::sqrtf(x); }
SINEW_HD double sqrt(double x) { return ::sqrt(x); }
SINEW_HD float pow(float x, float y) { return ::powf(x, y); }
SINEW_HD double pow(double x, double y) { return ::pow(x, y); }
SINEW_HD float sin(float x) { return ::sinf(x); }
SINEW_HD double sin(double x) { return ::sin(x); }
SINEW_HD float cos(float x) { return ::cosf(x); }
SINEW_HD double cos(double x) { return ::cos(x); }
SINEW_HD float tanh(float x) { return ::tanhf(x); }
SINEW_HD double tanh(double x) { return ::tanh(x); }
}  // namespace fn

// Unary: f(x, p0, p1).
struct affine {
  template <class T>
  SINEW_HD static T apply(T x, T p0, T p1) {
    return p0 * x + p1;
  }
};
struct abs {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return x < T(0) ? -x : x;
  }
};
struct exp {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return fn::exp(x);
  }
};
struct log {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return fn::log(x);
  }
};
struct sqrt {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return fn::sqrt(x);
  }
};
struct reciprocal {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return T(1) / x;
  }
};
struct square {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return x * x;
  }
};
struct pow {
  template <class T>
  SINEW_HD static T apply(T x, T p0, T) {
    return fn::pow(x, p0);
  }
};
struct sin {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return fn::sin(x);
  }
};
struct cos {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return fn::cos(x);
  }
};
struct tanh {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return fn::tanh(x);
  }
};
struct sigmoid {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return T(1) / (T(1) + fn::exp(-x));
  }
};
struct softplus {  // max(x, 0) + log(1 + e^-|x|): no overflow
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return (x > T(0) ? x : T(0)) + fn::log1p(fn::exp(x > T(0) ? -x : x));
  }
};
struct relu {  // NaN stays, in every kernel that has this as its activation, so that it is seen in the loss
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return x <= T(0) ? T(0) : x;
  }
};
struct sign {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return T((x > T(0)) - (x < T(0)));
  }
};
struct step {
  template <class T>
  SINEW_HD static T apply(T x, T, T) {
    return T(x > T(0));
  }
};

// Binary: f(a, b).
struct add {
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return T(a + b);
  }
};
struct sub {
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return T(a - b);
  }
};
struct mul {
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return T(a * b);
  }
};
struct div {  // integer division by zero gives 0
  SINEW_HD static float apply(float a, float b) { return a / b; }
  SINEW_HD static double apply(double a, double b) { return a / b; }
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return b == T(0) ? T(0) : b == T(-1) ? T(T(0) - a) : T(a / b);
  }
};
struct maximum {  // NaN when either is
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return a > b || a != a ? a : b;
  }
};
struct minimum {
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return a < b || a != a ? a : b;
  }
};
struct greater {
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return T(a > b);
  }
};
struct equal {
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return T(a == b);
  }
};
struct add_relu {
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    const T v = T(a + b);
    return v <= T(0) ? T(0) : v;
  }
};
struct relu_grad {
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return b > T(0) ? a : T(0);
  }
};
struct tanh_grad {
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return T(a * (T(1) - b * b));
  }
};
struct sigmoid_grad {
  template <class T>
  SINEW_HD static T apply(T a, T b) {
    return T(a * b * (T(1) - b));
  }
};

}  // namespace sinew::SINEW_FUNCTOR_NS
