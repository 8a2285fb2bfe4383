// Numbers in fewer bits: the CPU's kernels against the definition in core/packed_form.h, computed with frexp and ldexp.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/bfloat16.h"
#include "core/kernel_api.h"
#include "core/packed_form.h"
#include "core/philox.h"

namespace sinew::testing {
namespace {

constexpr PackedForm kForms[] = {PackedForm::bf16, PackedForm::int8};

template <class T>
std::vector<T> numbers(int64_t n, double scale, uint64_t seed) {
  std::vector<T> v(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) {
    const double u = uniform01(philox_u64({seed, uint32_t(RngPurpose::test), 0, 0}, static_cast<uint64_t>(i)));
    v[static_cast<size_t>(i)] = static_cast<T>(scale * (2 * u - 1));
  }
  return v;
}

// False: some blocks stayed as they are.
template <class T>
bool define_round(PackedForm form, std::vector<T>& v, std::vector<T>* residual) {
  bool whole = true;
  for (size_t at = 0; at < v.size(); at += kPackedBlock) {
    const size_t n = std::min<size_t>(kPackedBlock, v.size() - at);
    std::vector<T> wanted(n), rounded(n);
    double largest = 0;
    bool finite = true;
    for (size_t i = 0; i < n; ++i) {
      wanted[i] = residual ? v[at + i] + (*residual)[at + i] : v[at + i];
      finite = finite && std::isfinite(v[at + i]) && std::isfinite(wanted[i]);
      largest = std::max(largest, std::abs(static_cast<double>(wanted[i])));
    }
    whole = whole && finite;
    if (!finite) continue;
    int exponent = 0;
    const double fraction = std::frexp(largest, &exponent);
    exponent += fraction * 128 > 127 ? -6 : -7;
    for (size_t i = 0; i < n; ++i) {
      if (form == PackedForm::bf16)
        rounded[i] = static_cast<float>(bfloat16(wanted[i]));
      else if (largest < std::ldexp(1.0, -100))
        rounded[i] = 0;
      else
        rounded[i] = static_cast<T>(
            std::ldexp(std::nearbyint(std::ldexp(static_cast<long double>(wanted[i]), -exponent)), exponent));
      finite = finite && std::isfinite(rounded[i]);
    }
    whole = whole && finite;
    if (!finite) continue;
    for (size_t i = 0; i < n; ++i) {
      v[at + i] = rounded[i];
      if (residual) (*residual)[at + i] = wanted[i] - rounded[i];
    }
  }
  return whole;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// round_and_pack of v, in place or not, makes what the two kernels have made one after the other.
template <class T>
void check_one_pass(PackedForm form, const std::vector<T>& v, bool with_residual, const std::vector<T>& want,
                    const std::vector<T>& want_rest, const std::vector<unsigned char>& want_bytes, bool whole) {
  const auto n = static_cast<int64_t>(v.size());
  for (bool in_place : {false, true}) {
    std::vector<T> values = v, apart(v.size()), rest = numbers<T>(n, 1e-3, 8);
    std::vector<T>& rounded = in_place ? values : apart;
    std::vector<unsigned char> bytes(want_bytes.size(), 0xEE);
    int32_t inexact = 7;
    cpu_kernels().round_and_pack({dtype_of<T>, form, n, values.data(), with_residual ? rest.data() : nullptr,
                                  rounded.data(), bytes.data(), &inexact});
    ASSERT_TRUE(same_bits(rounded, want));
    ASSERT_TRUE(same_bits(rest, want_rest));
    ASSERT_TRUE(same_bits(values, in_place ? want : v));
    ASSERT_EQ(inexact == 0, whole);
    ASSERT_TRUE(!whole || bytes == want_bytes);
  }
}

template <class T>
void check(std::vector<T> v, const char* what) {
  SCOPED_TRACE(what);
  const auto n = static_cast<int64_t>(v.size());
  const KernelTable& table = cpu_kernels();
  for (PackedForm form : kForms)
    for (bool with_residual : {false, true}) {
      std::vector<T> want = v, got = v, rest = numbers<T>(n, 1e-3, 8), want_rest = rest;
      const bool whole = define_round(form, want, with_residual ? &want_rest : nullptr);
      table.round_to_packed({dtype_of<T>, form, n, got.data(), with_residual ? rest.data() : nullptr});
      ASSERT_EQ(std::memcmp(rest.data(), want_rest.data(), rest.size() * sizeof(T)), 0);
      for (size_t i = 0; i < got.size(); ++i)
        ASSERT_TRUE(got[i] == want[i] || (std::isnan(got[i]) && std::isnan(want[i])))
            << got[i] << " is not " << want[i] << " at " << i << ", form " << static_cast<int>(form);

      std::vector<unsigned char> bytes(static_cast<size_t>(2 * n) + 4, 0xEE);
      const size_t used =
          static_cast<size_t>(form == PackedForm::bf16 ? 2 * n : n + 2 * ((n + kPackedBlock - 1) / kPackedBlock));
      int32_t inexact = 7;
      table.pack({dtype_of<T>, form, n, got.data(), bytes.data(), &inexact});
      ASSERT_EQ(inexact == 0, whole);
      for (size_t i = used; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], 0xEE) << "beyond the end";
      check_one_pass(form, v, with_residual, got, rest, bytes, whole);
      if (!whole) continue;
      std::vector<T> back(got.size());
      table.unpack({dtype_of<T>, form, n, bytes.data(), back.data()});
      ASSERT_EQ(back, got);
    }
}

template <class T>
void check_all() {
  for (int64_t n : {1, 2, 255, 256, 257, 1000, 40000})
    for (double scale : {1.0, 1e-12, 3e20, 1e-33, 127.0 / 64}) check(numbers<T>(n, scale, 1), "uniform");
  std::vector<T> edges = numbers<T>(700, 1, 2);
  edges[0] = edges[300] = 0;
  edges[600] = std::numeric_limits<T>::max();  // its block has no int8 form
  check(edges, "largest number");
  edges[600] = 127;
  edges[601] = T(-126.5);
  edges[602] = T(0.5);
  check(edges, "exact scale, ties");
  edges[5] = std::numeric_limits<T>::infinity();
  check(edges, "infinity");
  std::fill(edges.begin(), edges.end(), T(0));
  check(edges, "zeros");
  std::fill(edges.begin(), edges.end(), std::numeric_limits<T>::denorm_min());
  check(edges, "denormals");
}

TEST(PackingKernels, RoundPackAndUnpackAsDefined) {
  check_all<float>();
  check_all<double>();
}

TEST(PackingKernels, WhatTheFormDoesNotHoldIsInexact) {
  std::vector<float> v = numbers<float>(40000, 1, 3);
  for (PackedForm form : kForms) {
    std::vector<float> rounded = v;
    cpu_kernels().round_to_packed({DType::f32, form, 40000, rounded.data(), nullptr});
    rounded[39999] = std::nextafter(rounded[39999], 2.0f);
    std::vector<unsigned char> bytes(80000);
    int32_t inexact = 0;
    cpu_kernels().pack({DType::f32, form, 40000, rounded.data(), bytes.data(), &inexact});
    EXPECT_NE(inexact, 0);
  }
}

// A message of somebody else's making.
TEST(PackingKernels, ExponentsOfNoNumberGiveNaN) {
  for (int exponent : {128, 256, -127, -128, 32767, -32768}) {
    const std::vector<unsigned char> bytes{static_cast<unsigned char>(exponent & 0xFF),
                                           static_cast<unsigned char>(exponent >> 8 & 0xFF), 1};
    float value = 0;
    cpu_kernels().unpack({DType::f32, PackedForm::int8, 1, bytes.data(), &value});
    EXPECT_TRUE(std::isnan(value)) << exponent << ": " << value;
  }
}

TEST(PackingKernels, BytesOfInt8AreAsStated) {
  const std::vector<float> v = {127 * 4.0f, -3 * 4.0f, 0};
  std::vector<unsigned char> bytes(5);
  int32_t inexact = 1;
  cpu_kernels().pack({DType::f32, PackedForm::int8, 3, v.data(), bytes.data(), &inexact});
  EXPECT_EQ(inexact, 0);
  EXPECT_EQ(bytes, (std::vector<unsigned char>{2, 0, 127, 0xFD, 0}));
}

}  // namespace
}  // namespace sinew::testing
