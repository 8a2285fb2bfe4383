// The laboratories' pictures and tables as text.
#include "models/lab/svg.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "models/lab/report.h"

namespace sinew::train::lab {
namespace {

size_t count(const std::string& text, const std::string& part) {
  size_t n = 0;
  for (size_t at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) ++n;
  return n;
}

// Every element is closed, in order, and no text escapes into the markup.
void expect_well_formed(const std::string& svg) {
  std::vector<std::string> open;
  for (size_t at = svg.find('<'); at != std::string::npos; at = svg.find('<', at + 1)) {
    const size_t end = svg.find('>', at);
    ASSERT_NE(end, std::string::npos);
    const std::string tag = svg.substr(at + 1, end - at - 1);
    ASSERT_EQ(tag.find('<'), std::string::npos) << tag;
    ASSERT_EQ(count(tag, "\"") % 2, 0u) << tag;
    if (tag.starts_with("/")) {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(tag.substr(1), open.back());
      open.pop_back();
    } else if (!tag.ends_with("/")) {
      open.push_back(tag.substr(0, tag.find(' ')));
    }
  }
  EXPECT_TRUE(open.empty());
  EXPECT_EQ(count(svg, "nan"), 0u);
  EXPECT_EQ(count(svg, "inf\""), 0u);
}

TEST(LabSvg, APlotHasItsParts) {
  const Plot plot{.title = "a < b & c",
                  .x = {.label = "time", .logarithmic = true},
                  .y = {.label = "loss"},
                  .series = {{.name = "one", .x = {0, 1, 10, 100, 1000}, .y = {1, 2, NAN, 4, 3}},
                             {.name = "two", .x = {1, 10}, .y = {0, 5}, .style = Series::Style::dots},
                             {.name = "", .x = {1, 10}, .y = {0, 1}, .style = Series::Style::dashed}}};
  const std::string text = svg(plot);
  expect_well_formed(text);
  for (const char* part : {"a &lt; b &amp; c", ">time<", ">loss<", ">one<", ">two<", ">1000<", "stroke-dasharray"})
    EXPECT_EQ(count(text, part), 1u) << part;
  EXPECT_EQ(count(text, "<circle"), 3u) << "two values and the legend's";
  const size_t line = text.find("<path d=\"");
  EXPECT_EQ(count(text.substr(line, text.find('"', line + 9) - line), "M"), 2u) << "broken at what cannot be shown";
  EXPECT_EQ(svg(plot), text);
}

TEST(LabSvg, PointsLieWhereTheirValuesAre) {
  // The axes are 80 to 540 and 380 to 44.
  const std::string text = svg(Plot{.title = "",
                                    .x = {.label = "", .low = 0, .high = 2},
                                    .y = {.label = "", .logarithmic = true, .low = 0.01, .high = 100},
                                    .series = {{.name = "", .x = {1}, .y = {1}, .style = Series::Style::dots}}});
  EXPECT_NE(text.find("<circle cx=\"310.00\" cy=\"212.00\""), std::string::npos) << text;
}

TEST(LabSvg, TicksHaveTheirNumbers) {
  const std::string text = svg(Plot{.title = "",
                                    .x = {.label = "", .low = -0.3, .high = 0.3},
                                    .y = {.label = "", .logarithmic = true, .low = 1e-20, .high = 1},
                                    .series = {}});
  for (const char* tick : {">-0.1<", ">0<", ">0.3<", ">1<", ">1e-15<"}) EXPECT_EQ(count(text, tick), 1u) << tick;
}

TEST(LabSvg, NothingToShowIsNoError) {
  expect_well_formed(svg(Plot{.title = "", .x = {}, .y = {}, .series = {}}));
  expect_well_formed(svg(Plot{
      .title = "", .x = {}, .y = {.label = "", .logarithmic = true}, .series = {{.name = "n", .x = {1}, .y = {-1}}}}));
  expect_well_formed(svg(Plot{.title = "", .x = {}, .y = {}, .series = {{.name = "n", .x = {3}, .y = {0}}}}));
}

TEST(LabSvg, AMapIsBlueBelowItsMiddleAndRedAbove) {
  const HeatMap map{.title = "map",
                    .x = {.label = "eta"},
                    .y = {.label = "rho"},
                    .values_label = "radius",
                    .x_values = {1, 2},
                    .y_values = {1, 2},
                    .values = {0, 1, 3, NAN},
                    .middle = 1,
                    .lines = {{.name = "limit", .x = {1, 2}, .y = {1, 2}}}};
  const std::string text = svg(map);
  expect_well_formed(text);
  const std::string cells = text.substr(0, text.find("</g>"));
  EXPECT_EQ(count(cells, "fill=\"#1f5fb4\""), 1u) << "0 is as blue as it gets";
  EXPECT_EQ(count(cells, "fill=\"#ffffff\""), 1u);
  EXPECT_EQ(count(cells, "fill=\"#b2182b\""), 1u);
  for (const char* part : {">limit<", ">radius<", ">map<"}) EXPECT_EQ(count(text, part), 1u) << part;
}

TEST(LabReport, TablesAsTextAndJson) {
  Report report;
  report.tables.push_back({"t", "Title", {"name", "value"}, {{"a", 0.1}, {"long name", INFINITY}}});
  EXPECT_EQ(text_of(report.tables[0]),
            "Title\n"
            "       name  value\n"
            "          a    0.1\n"
            "  long name    inf\n");
  const auto json = nlohmann::json::parse(json_of(report, "stability", 7));
  EXPECT_EQ(json["lab"], "stability");
  EXPECT_EQ(json["seed"], 7);
  EXPECT_EQ(json["tables"]["t"]["columns"][1], "value");
  EXPECT_EQ(json["tables"]["t"]["rows"][0][1], 0.1);
  EXPECT_TRUE(json["tables"]["t"]["rows"][1][1].is_null());
  EXPECT_EQ(write_report(report, "stability", 7, "/dev/null/folder").status().code(), StatusCode::io_error);
}

}  // namespace
}  // namespace sinew::train::lab
