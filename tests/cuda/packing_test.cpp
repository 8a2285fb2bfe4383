// Numbers in fewer bits, against the CPU's kernels: equal bits.
#include <cstring>
#include <utility>

#include "core/packed_form.h"
#include "tests/cuda/support.h"

namespace sinew::testing {
namespace {

template <class T>
void expect_same_bits(const std::vector<T>& got, const std::vector<T>& want, const char* what) {
  ASSERT_EQ(got.size(), want.size()) << what;
  for (size_t i = 0; i < got.size(); ++i)
    ASSERT_EQ(std::memcmp(&got[i], &want[i], sizeof(T)), 0) << what << " " << i << ": " << got[i] << ", " << want[i];
}

template <class T>
void check(const std::vector<T>& values, PackedForm form, bool with_residual, size_t offset, size_t byte_offset) {
  const auto n = static_cast<int64_t>(values.size());
  SCOPED_TRACE(::testing::Message() << to_string(dtype_of<T>) << ", form " << static_cast<int>(form) << ", n " << n
                                    << ", offsets " << offset << " and " << byte_offset
                                    << (with_residual ? ", with a residual" : ""));
  std::vector<T> rounded = values, residual = random_values<T>(values.size(), -1e-3, 1e-3, 7), rest = residual;
  cpu_kernels().round_to_packed({dtype_of<T>, form, n, rounded.data(), with_residual ? rest.data() : nullptr});
  const DeviceArray<T> x(values, offset), r(residual, offset);
  device().round_to_packed({dtype_of<T>, form, n, x.data(), with_residual ? r.data() : nullptr});
  expect_same_bits(x.read(), rounded, "rounded");
  expect_same_bits(r.read(), rest, "residual");

  const auto bytes =
      static_cast<size_t>(form == PackedForm::bf16 ? 2 * n : n + 2 * ((n + kPackedBlock - 1) / kPackedBlock));
  std::vector<unsigned char> packed(bytes);
  int32_t inexact = 0;
  cpu_kernels().pack({dtype_of<T>, form, n, rounded.data(), packed.data(), &inexact});
  const DeviceArray<unsigned char> p(bytes, byte_offset);
  const DeviceArray<int32_t> flag(std::vector<int32_t>{-1});
  device().pack({dtype_of<T>, form, n, x.data(), p.data(), flag.data()});
  ASSERT_EQ(flag.read()[0] == 0, inexact == 0);
  if (inexact != 0) return;
  expect_same_bits(p.read(), packed, "byte");
  const DeviceArray<T> back(values.size(), offset);
  device().unpack({dtype_of<T>, form, n, p.data(), back.data()});
  cpu_kernels().unpack({dtype_of<T>, form, n, packed.data(), rounded.data()});
  expect_same_bits(back.read(), rounded, "unpacked");
}

template <class T>
void check_all() {
  for (PackedForm form : {PackedForm::bf16, PackedForm::int8})
    for (const auto& [offset, byte_offset] :
         {std::pair<size_t, size_t>(0, 0), std::pair<size_t, size_t>(0, 2), std::pair<size_t, size_t>(1, 2)})
      for (bool with_residual : {false, true}) {
        for (size_t n : {1, 2, 3, 255, 256, 257, 4 * 256 + 6})
          check(random_values<T>(n, -1, 1, 3), form, with_residual, offset, byte_offset);
        std::vector<T> edges = random_values<T>(5 * 256 + 77, -1e-20, 1e-20, 4);
        for (size_t i = 0; i < 256; ++i) edges[i] = 0;
        for (size_t i = 256; i < 512; ++i) edges[i] *= T(1e-17);  // too small for int8
        edges[513] = T(127);
        edges[514] = T(-0.5);
        check(edges, form, with_residual, offset, byte_offset);
        edges[800] = std::numeric_limits<T>::infinity();
        edges[1100] = std::numeric_limits<T>::quiet_NaN();
        check(edges, form, with_residual, offset, byte_offset);
      }
}

TEST(CudaPacking, SameBitsAsOnTheCpu) {
  SINEW_NEEDS_CUDA();
  in_all_orders([] {
    check_all<float>();
    check_all<double>();
  });
  device().round_to_packed({DType::f32, PackedForm::int8, 0, nullptr, nullptr});
  device().unpack({DType::f32, PackedForm::int8, 0, nullptr, nullptr});
}

TEST(CudaPacking, WhatTheFormDoesNotHoldIsInexact) {
  SINEW_NEEDS_CUDA();
  const DeviceArray<float> x(random_values<float>(3000, -1, 1, 5));
  const DeviceArray<unsigned char> bytes(6000);
  const DeviceArray<int32_t> flag(1);
  for (PackedForm form : {PackedForm::bf16, PackedForm::int8}) {
    device().pack({DType::f32, form, 3000, x.data(), bytes.data(), flag.data()});
    EXPECT_NE(flag.read()[0], 0);
  }
}

}  // namespace
}  // namespace sinew::testing
