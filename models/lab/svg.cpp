#include "models/lab/svg.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>

namespace sinew::train::lab {
namespace {

constexpr double kWidth = 720, kHeight = 440, kLeft = 80, kTop = 44, kBottom = 60, kLegend = 180;
constexpr double kPlotWidth = kWidth - kLeft - kLegend, kPlotHeight = kHeight - kTop - kBottom;
constexpr const char* kPalette[] = {"#1f6fb4", "#d1495b", "#2f9e5b", "#8a5cc4", "#d98a00", "#4d4d4d"};

std::string number(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", v);
  return text;
}

std::string label(double v) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6g", v);
  return text;
}

std::string escaped(const std::string& text) {
  std::string out;
  for (char c : text) out += c == '&' ? "&amp;" : c == '<' ? "&lt;" : c == '>' ? "&gt;" : std::string(1, c);
  return out;
}

std::string text_at(double x, double y, const std::string& text, const char* anchor, const char* more = "") {
  return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\"" + more + ">" +
         escaped(text) + "</text>\n";
}

std::string line_between(double x1, double y1, double x2, double y2, const char* color) {
  return "<line x1=\"" + number(x1) + "\" y1=\"" + number(y1) + "\" x2=\"" + number(x2) + "\" y2=\"" + number(y2) +
         "\" stroke=\"" + color + "\"/>\n";
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -std::numeric_limits<double>::infinity();
  void add(double v) { low = std::min(low, v), high = std::max(high, v); }
};

// From values to the drawing's units.
class Scale {
 public:
  Scale(const Axis& axis, Range data, double from, double to) : log_(axis.logarithmic), from_(from), to_(to) {
    if (axis.low != axis.high) data = {axis.low, axis.high};
    if (!(data.low <= data.high)) data = {log_ ? 0.1 : 0, 1};
    low_ = mapped(data.low), high_ = mapped(data.high);
    if (axis.low == axis.high) {
      const double margin = high_ > low_ ? 0.04 * (high_ - low_) : std::max(0.5 * std::fabs(low_), 0.5);
      low_ -= margin, high_ += margin;
    }
  }
  // NaN where there is no such place.
  double at(double v) const { return usable(v) ? from_ + (mapped(v) - low_) / (high_ - low_) * (to_ - from_) : NAN; }
  bool usable(double v) const { return std::isfinite(v) && (!log_ || v > 0); }

  std::vector<double> ticks() const {
    std::vector<double> all;
    const double step = log_ ? std::max(1.0, std::ceil((high_ - low_) / 7)) : round_step((high_ - low_) / 6);
    for (double t = std::ceil(low_ / step) * step; t <= high_ + 1e-9 * step; t += step)
      all.push_back(log_ ? std::pow(10, std::round(t)) : std::fabs(t) < 1e-9 * step ? 0 : t);
    return all;
  }

 private:
  double mapped(double v) const { return log_ ? std::log10(v) : v; }
  // 1, 2 or 5 times a power of ten.
  static double round_step(double step) {
    const double power = std::pow(10, std::floor(std::log10(step)));
    return (step > 5 * power ? 10 : step > 2 * power ? 5 : step > power ? 2 : 1) * power;
  }

  bool log_;
  double from_, to_, low_ = 0, high_ = 1;
};

std::string frame(const std::string& title, const Axis& x, const Axis& y, const Scale& sx, const Scale& sy) {
  std::string out;
  const double bottom = kTop + kPlotHeight, right = kLeft + kPlotWidth;
  for (double t : sx.ticks()) {
    out += line_between(sx.at(t), bottom, sx.at(t), bottom + 5, "#333");
    out += text_at(sx.at(t), bottom + 19, label(t), "middle");
  }
  for (double t : sy.ticks()) {
    out += line_between(kLeft - 5, sy.at(t), kLeft, sy.at(t), "#333");
    out += text_at(kLeft - 9, sy.at(t) + 4, label(t), "end");
  }
  out += "<rect x=\"" + number(kLeft) + "\" y=\"" + number(kTop) + "\" width=\"" + number(right - kLeft) +
         "\" height=\"" + number(kPlotHeight) + "\" fill=\"none\" stroke=\"#333\"/>\n";
  out += text_at(kLeft, 26, title, "start", " font-size=\"15\" font-weight=\"bold\"");
  out += text_at((kLeft + right) / 2, kHeight - 16, x.label, "middle");
  const std::string turned = " transform=\"rotate(-90 18 " + number(kTop + kPlotHeight / 2) + ")\"";
  out += text_at(18, kTop + kPlotHeight / 2, y.label, "middle", turned.c_str());
  return out;
}

std::string drawn(const Series& s, size_t index, const Scale& sx, const Scale& sy) {
  const std::string color = kPalette[(s.color >= 0 ? static_cast<size_t>(s.color) : index) % std::size(kPalette)];
  std::string out, path;
  bool pen_down = false;
  for (size_t i = 0; i < std::min(s.x.size(), s.y.size()); ++i) {
    const double x = sx.at(s.x[i]), y = sy.at(s.y[i]);
    if (!std::isfinite(x) || !std::isfinite(y)) {
      pen_down = false;
      continue;
    }
    if (s.style == Series::Style::dots)
      out += "<circle cx=\"" + number(x) + "\" cy=\"" + number(y) + "\" r=\"3\" fill=\"" + color + "\"/>\n";
    else
      path += (pen_down ? "L" : "M") + number(x) + " " + number(y);
    pen_down = true;
  }
  if (!path.empty())
    out += "<path d=\"" + path + "\" fill=\"none\" stroke=\"" + color + "\" stroke-width=\"1.6\"" +
           (s.style == Series::Style::dashed ? " stroke-dasharray=\"6 4\"" : "") + "/>\n";
  return out;
}

std::string legend(const std::vector<Series>& series, double top) {
  std::string out;
  double y = top;
  const double x = kLeft + kPlotWidth + 14;
  for (size_t i = 0; i < series.size(); ++i) {
    if (series[i].name.empty()) continue;
    Series sample = series[i];
    const Axis unit{.label = "", .low = 0, .high = 1};
    const Scale sx(unit, {}, x, x + 24), sy(unit, {}, y - 4, y - 5);
    sample.x = {0, 1}, sample.y = {0, 0};
    if (sample.style == Series::Style::dots) sample.x = {0.5}, sample.y = {0};
    out += drawn(sample, i, sx, sy);
    out += text_at(x + 30, y, series[i].name, "start");
    y += 20;
  }
  return out;
}

std::string document(const std::string& body) {
  return "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + number(kWidth) + " " + number(kHeight) +
         "\" width=\"" + number(kWidth) + "\" height=\"" + number(kHeight) +
         "\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#111\">\n<rect width=\"100%\" height=\"100%\" "
         "fill=\"white\"/>\n<clipPath id=\"inside\"><rect x=\"" +
         number(kLeft) + "\" y=\"" + number(kTop) + "\" width=\"" + number(kPlotWidth) + "\" height=\"" +
         number(kPlotHeight) + "\"/></clipPath>\n" + body + "</svg>\n";
}

std::string clipped(const std::string& body) { return "<g clip-path=\"url(#inside)\">\n" + body + "</g>\n"; }

// -1: blue, 0: white, 1: red.
std::string shade(double t) {
  const double strength = std::min(1.0, std::fabs(t));
  const double end[3] = {t < 0 ? 31.0 : 178.0, t < 0 ? 95.0 : 24.0, t < 0 ? 180.0 : 43.0};
  char text[8];
  std::snprintf(text, sizeof text, "#%02x%02x%02x", static_cast<int>(255 + strength * (end[0] - 255)),
                static_cast<int>(255 + strength * (end[1] - 255)), static_cast<int>(255 + strength * (end[2] - 255)));
  return text;
}

}  // namespace

std::string svg(const Plot& plot) {
  Range rx, ry;
  for (const Series& s : plot.series)
    for (size_t i = 0; i < std::min(s.x.size(), s.y.size()); ++i)
      if (std::isfinite(s.x[i]) && std::isfinite(s.y[i]) && (!plot.x.logarithmic || s.x[i] > 0) &&
          (!plot.y.logarithmic || s.y[i] > 0))
        rx.add(s.x[i]), ry.add(s.y[i]);
  const Scale sx(plot.x, rx, kLeft, kLeft + kPlotWidth), sy(plot.y, ry, kTop + kPlotHeight, kTop);
  std::string body;
  for (size_t i = 0; i < plot.series.size(); ++i) body += drawn(plot.series[i], i, sx, sy);
  return document(clipped(body) + frame(plot.title, plot.x, plot.y, sx, sy) + legend(plot.series, kTop + 12));
}

std::string svg(const HeatMap& map) {
  const size_t nx = map.x_values.size(), ny = map.y_values.size();
  Range values;
  for (double v : map.values)
    if (std::isfinite(v)) values.add(v);
  auto bounds = [](const std::vector<double>& v) {
    const double half = v.size() > 1 ? (v[1] - v[0]) / 2 : 0.5;
    return Axis{.label = "", .low = v.front() - half, .high = v.back() + half};
  };
  const Scale sx(bounds(map.x_values), {}, kLeft, kLeft + kPlotWidth);
  const Scale sy(bounds(map.y_values), {}, kTop + kPlotHeight, kTop);
  const double below = std::max(map.middle - values.low, 1e-300), above = std::max(values.high - map.middle, 1e-300);
  auto color = [&](double v) { return shade(v < map.middle ? (v - map.middle) / below : (v - map.middle) / above); };
  std::string body = "<g shape-rendering=\"crispEdges\">\n";
  const double w = kPlotWidth / static_cast<double>(nx), h = kPlotHeight / static_cast<double>(ny);
  for (size_t j = 0; j < ny; ++j)
    for (size_t i = 0; i < nx; ++i) {
      const double v = map.values[j * nx + i];
      if (!std::isfinite(v)) continue;
      body += "<rect x=\"" + number(sx.at(map.x_values[i]) - w / 2) + "\" y=\"" +
              number(sy.at(map.y_values[j]) - h / 2) + "\" width=\"" + number(w + 0.3) + "\" height=\"" +
              number(h + 0.3) + "\" fill=\"" + color(v) + "\"/>\n";
    }
  body += "</g>\n";
  for (size_t i = 0; i < map.lines.size(); ++i) body += drawn(map.lines[i], i, sx, sy);

  // The bar of colours, each side of the middle as long as its values reach.
  const double x = kLeft + kPlotWidth + 18, top = kTop + 24 + 20 * static_cast<double>(map.lines.size()), size = 200;
  std::string bar;
  Range shown = values;
  shown.add(map.middle);
  constexpr int kSteps = 60;
  const double step = (shown.high - shown.low) / kSteps;
  for (int i = 0; i < kSteps; ++i)
    bar += "<rect x=\"" + number(x) + "\" y=\"" + number(top + size * (kSteps - 1 - i) / kSteps) +
           "\" width=\"16\" height=\"" + number(size / kSteps + 0.3) + "\" fill=\"" +
           color(shown.low + (i + 0.5) * step) + "\"/>\n";
  for (double v : {shown.low, map.middle, shown.high})
    bar += text_at(x + 22, top + size * (shown.high - v) / (shown.high - shown.low) + 4, label(v), "start");
  bar += text_at(x, top + size + 22, map.values_label, "start");
  return document(clipped(body) + frame(map.title, map.x, map.y, sx, sy) + legend(map.lines, kTop + 12) + bar);
}

}  // namespace sinew::train::lab
