#include "nn/init.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace sinew::nn {
namespace {

using Kind = Initializer::Kind;

RngKey key(uint64_t seed = 1) { return {seed, static_cast<uint32_t>(RngPurpose::init), 0, 0}; }

std::vector<double> draw(const Initializer& init, const Shape& shape, const RngKey& k = key(),
                         DType dtype = DType::f64) {
  Vec v = Vec::zeros(shape.numel(), dtype);
  initialize(init, shape, k, v.mutable_view());
  return to_doubles(v.view());
}

struct Moments {
  double mean = 0, variance = 0, kurtosis = 0, low = 0, high = 0;
};
Moments moments(const std::vector<double>& values) {
  Moments m;
  double n = static_cast<double>(values.size()), fourth = 0;
  for (double v : values) m.mean += v / n;
  for (double v : values) {
    double d = v - m.mean;
    m.variance += d * d / n;
    fourth += d * d * d * d / n;
  }
  m.kurtosis = fourth / (m.variance * m.variance);
  m.low = *std::min_element(values.begin(), values.end());
  m.high = *std::max_element(values.begin(), values.end());
  return m;
}

// Shape (400, 250): fan_in 250, fan_out 400. 100,000 draws: the mean's standard error is sigma / 316, the variance's
// relative one at most sqrt(2 / 1e5) = 0.0045; the limits are five of each.
const Shape kShape{400, 250};

struct Case {
  const char* name;
  double variance;
  bool normal;
};
TEST(Init, NamedInitialisersHaveTheirMomentsAndBounds) {
  const Case cases[] = {
      {"kaiming_uniform", 2.0 / 250, false}, {"kaiming_normal", 2.0 / 250, true}, {"xavier_uniform", 2.0 / 650, false},
      {"xavier_normal", 2.0 / 650, true},    {"lecun_uniform", 1.0 / 250, false}, {"lecun_normal", 1.0 / 250, true},
      {"pytorch_default", 1.0 / 750, false},
  };
  for (const Case& c : cases) {
    Moments m = moments(draw(initializer_named(c.name), kShape));
    double sigma = std::sqrt(c.variance);
    EXPECT_NEAR(m.mean, 0, 5 * sigma / 316) << c.name;
    EXPECT_NEAR(m.variance, c.variance, 0.0225 * c.variance) << c.name;
    EXPECT_NEAR(m.kurtosis, c.normal ? 3.0 : 1.8, c.normal ? 0.08 : 0.03) << c.name;
    if (c.normal) continue;
    double bound = std::sqrt(3.0) * sigma;
    EXPECT_GE(m.low, -bound) << c.name;
    EXPECT_LE(m.high, bound) << c.name;
    EXPECT_LT(m.low, -0.999 * bound) << c.name;
    EXPECT_GT(m.high, 0.999 * bound) << c.name;
  }
}

TEST(Init, UniformAndNormalTakeTheirValue) {
  Moments u = moments(draw({Kind::uniform, 0.25, 0}, {100000}));
  EXPECT_GE(u.low, -0.25);
  EXPECT_LE(u.high, 0.25);
  EXPECT_NEAR(u.variance, 0.0625 / 3, 0.0225 * 0.0625 / 3);
  Moments n = moments(draw({Kind::normal, 0.5, 0}, {100000}));
  EXPECT_NEAR(n.variance, 0.25, 0.0225 * 0.25);
}

TEST(Init, ConstantsNeedNoFan) {
  EXPECT_EQ(draw({Kind::zeros, 7, 0}, {3}), (std::vector<double>{0, 0, 0}));
  EXPECT_EQ(draw({Kind::constant, 7, 0}, {3}), (std::vector<double>{7, 7, 7}));
  EXPECT_TRUE(draw({Kind::normal, 1, 0}, {0}).empty());
}

TEST(Init, FiltersUseTheirReceptiveField) {
  // (out, R, S, in) = (32, 3, 3, 50): fan_in 450, fan_out 288.
  Moments k = moments(draw(initializer_named("lecun_uniform"), {32, 3, 3, 50}));
  EXPECT_NEAR(k.high, std::sqrt(3.0 / 450), 1e-3);
  Moments x = moments(draw(initializer_named("xavier_uniform"), {32, 3, 3, 50}));
  EXPECT_NEAR(x.high, std::sqrt(6.0 / (450 + 288)), 1e-3);
}

TEST(Init, BiasesAreToldTheirFan) {
  Moments m = moments(draw({Kind::pytorch_default, 0, 100}, {5000}));
  EXPECT_LE(m.high, 0.1);
  EXPECT_GT(m.high, 0.099);
  EXPECT_THROW(draw(initializer_named("pytorch_default"), {5000}), Error);
  EXPECT_THROW(draw({Kind::xavier_uniform, 1, 100}, {5000}), Error);
}

TEST(Init, SameKeySameValuesOtherKeyOtherValues) {
  Initializer init = initializer_named("kaiming_normal");
  EXPECT_EQ(draw(init, kShape, key(3)), draw(init, kShape, key(3)));
  EXPECT_NE(draw(init, kShape, key(3)), draw(init, kShape, key(4)));
}

TEST(Init, BothTypesDrawTheSameNumbers) {
  for (const char* name : {"kaiming_normal", "pytorch_default"}) {
    std::vector<double> wide = draw(initializer_named(name), {50, 60});
    std::vector<double> narrow = draw(initializer_named(name), {50, 60}, key(), DType::f32);
    for (size_t i = 0; i < wide.size(); ++i) ASSERT_NEAR(narrow[i], wide[i], 1e-5) << name << " " << i;
  }
}

TEST(Init, RefusesWhatItCannotFill) {
  Vec v = Vec::zeros(6, DType::f32), whole = Vec::zeros(6, DType::i32);
  EXPECT_THROW(initialize({}, {7}, key(), v.mutable_view()), Error);
  EXPECT_THROW(initialize({}, {6}, key(), whole.mutable_view()), Error);
}

TEST(Init, NamesAreListed) {
  for (const std::string& name : initializer_names()) EXPECT_NO_THROW(initializer_named(name)) << name;
  try {
    initializer_named("he");
    FAIL() << "accepted an unknown name";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("kaiming_uniform"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace sinew::nn
