// The EASGD specification, section 6.9.
#include "models/lab/double_well.h"

#include <gtest/gtest.h>

#include <cmath>

namespace sinew::train::lab {
namespace {

// All that the laboratory prints. At 0.665 the curvature is 0.003, and the way back longer than that.
TEST(LabDoubleWell, IsATrapBelowTwoThirds) {
  for (double rho : {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.65, 0.66, 0.665}) {
    const Result<WellPoint> end = leave_the_trap(rho, 0.05, 20000);
    ASSERT_TRUE(end.ok()) << end.status().message();
    const double apart = rho < 0.66 ? 1e-12 : rho < 0.665 ? 1e-8 : 3e-5;
    EXPECT_NEAR(end->x, std::sqrt(1 - rho), apart) << rho;
    EXPECT_NEAR(end->y, -std::sqrt(1 - rho), apart) << rho;
    EXPECT_NEAR(end->c, 0, apart) << rho;
  }
  for (double rho : {0.67, 0.68, 0.7, 0.8, 0.9}) {
    const Result<WellPoint> end = leave_the_trap(rho, 0.05, 20000);
    ASSERT_TRUE(end.ok()) << end.status().message();
    EXPECT_NEAR(end->x, 1, 1e-6) << rho;
    EXPECT_NEAR(end->y, 1, 1e-6) << rho;
    EXPECT_NEAR(end->c, 1, 1e-6) << rho;
  }
}

TEST(LabDoubleWell, TheCurvatureChangesItsSignAtTwoThirds) {
  EXPECT_NEAR(least_curvature(2.0 / 3), 0, 1e-15);
  EXPECT_GT(least_curvature(0.66), 0);
  EXPECT_LT(least_curvature(0.67), 0);
}

}  // namespace
}  // namespace sinew::train::lab
