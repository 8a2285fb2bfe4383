#include "nn/loss.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/check.h"

namespace sinew::nn {
namespace {

TEST(Loss, CrossEntropyIsTheMeanNegativeLogLikelihood) {
  Tensor logits = Tensor::from_vector<double>({1, 2, 3, 0, 0, 0}, {2, 3});
  Tensor labels = Tensor::from_vector<int64_t>({2, 0}, {2});
  double first = std::log(std::exp(-2.0) + std::exp(-1.0) + 1), second = std::log(3.0);
  EXPECT_NEAR(cross_entropy(logits, labels).item<double>(), (first + second) / 2, 1e-15);
}

TEST(Loss, MeanSquaredErrorAveragesOverAllElements) {
  Tensor p = Tensor::from_vector<double>({1, 2, 3, 4}, {2, 2}), t = Tensor::from_vector<double>({1, 0, 0, 4}, {2, 2});
  EXPECT_DOUBLE_EQ(mean_squared_error(p, t).item<double>(), 13.0 / 4);
}

TEST(Loss, MeanSquaredErrorTakesLabelsAsOneHotRows) {
  Tensor p = Tensor::from_vector<double>({1, 2, 3, 4}, {2, 2});
  Tensor labels = Tensor::from_vector<int64_t>({1, 0}, {2});
  EXPECT_DOUBLE_EQ(mean_squared_error(p, labels).item<double>(), (1.0 + 1 + 4 + 16) / 4);
}

TEST(Loss, MeanSquaredErrorDoesNotBroadcast) {
  EXPECT_THROW(mean_squared_error(Tensor::zeros({4, 1}), Tensor::zeros({4})), Error);
}

TEST(Loss, AreKnownByName) {
  EXPECT_EQ(loss_names(), (std::vector<std::string>{"cross_entropy", "mse"}));
  EXPECT_EQ(loss_named("mse"), &mean_squared_error);
  EXPECT_EQ(loss_named("cross_entropy"), &cross_entropy);
  EXPECT_THROW(loss_named("hinge"), Error);
}

}  // namespace
}  // namespace sinew::nn
