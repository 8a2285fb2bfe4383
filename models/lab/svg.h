// Pictures of the laboratories as SVG text: line plots and heat maps, without any library.
//
// Values that are not finite, or not positive on a logarithmic axis, break a line and leave a cell of a map empty.
// Deterministic: equal input, equal bytes. Thread safety: free functions.
#pragma once

#include <string>
#include <vector>

namespace sinew::train::lab {

struct Axis {
  std::string label;
  bool logarithmic = false;
  double low = 0, high = 0;  // low == high: from the data
};

struct Series {
  std::string name;  // "": not in the legend
  std::vector<double> x, y;
  enum class Style { line, dashed, dots } style = Style::line;
  int color = -1;  // of the palette; < 0: the series' number
};

struct Plot {
  std::string title;
  Axis x, y;
  std::vector<Series> series;
};
std::string svg(const Plot& plot);

// Cells centered on x[i], y[j], evenly spaced; blue below `middle`, white at it, red above.
struct HeatMap {
  std::string title;
  Axis x, y;  // linear, from the cells
  std::string values_label;
  std::vector<double> x_values, y_values;
  std::vector<double> values;  // values[j * x_values.size() + i]
  double middle = 0;
  std::vector<Series> lines;  // over the map
};
std::string svg(const HeatMap& map);

}  // namespace sinew::train::lab
