// Compares what a laboratory prints with what docs/labs.md says.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "models/lab/report.h"

namespace sinew::train::lab {

// A cell that is not compared.
inline constexpr double kAny = std::numeric_limits<double>::quiet_NaN();

// The first cells of each row, numbers to `tolerance` of themselves.
inline void expect_rows(const Table& table, const std::vector<std::vector<Cell>>& rows, double tolerance) {
  ASSERT_EQ(table.rows.size(), rows.size()) << table.title;
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t j = 0; j < rows[i].size(); ++j) {
      const std::string where = table.title + ": row " + std::to_string(i) + ", " + table.columns.at(j);
      ASSERT_EQ(table.rows[i].at(j).index(), rows[i][j].index()) << where;
      const double* expected = std::get_if<double>(&rows[i][j]);
      if (!expected) {
        EXPECT_EQ(table.rows[i][j], rows[i][j]) << where;
      } else if (!std::isnan(*expected)) {
        EXPECT_NEAR(std::get<double>(table.rows[i][j]), *expected, tolerance * std::fabs(*expected)) << where;
      }
    }
}

}  // namespace sinew::train::lab
