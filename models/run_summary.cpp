#include <array>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "models/run.h"

namespace sinew::train {
namespace {

using Json = nlohmann::ordered_json;

// One list of fields for writing and reading.
template <class Summary, class Fn>
void each_field(Summary& s, Fn fn) {
  fn("test_accuracy", s.test_accuracy);
  fn("test_loss", s.test_loss);
  fn("evaluated", s.evaluated);
  fn("scheme", s.scheme);
  fn("model", s.model);
  fn("data", s.data);
  fn("world", s.world);
  fn("workers", s.workers);
  fn("steps_per_worker", s.steps_per_worker);
  fn("parameters", s.parameters);
  fn("samples_per_second", s.samples_per_second);
  fn("bytes_sent", s.bytes_sent);
  fn("wall_seconds", s.wall_seconds);
  fn("virtual_seconds", s.virtual_seconds);
  fn("exchanges", s.exchanges);
  fn("missed", s.missed);
  fn("refused", s.refused);
  fn("exchanges_lost", s.exchanges_lost);
  fn("staleness_mean", s.staleness_mean);
  fn("staleness_most", s.staleness_most);
  fn("consensus_distance", s.consensus_distance);
  fn("restarts", s.restarts);
  fn("lost", s.lost);
  fn("seed", s.seed);
  fn("parameters_sha256", s.parameters_sha256);
}

template <class... Values>
std::string format(const char* pattern, Values... values) {
  std::array<char, 512> line;
  std::snprintf(line.data(), line.size(), pattern, values...);
  return line.data();
}

std::string bytes_text(int64_t bytes) {
  double value = static_cast<double>(bytes);
  for (const char* unit : {"B", "kB", "MB"}) {
    if (value < 1000) return format(value < 10 && *unit != 'B' ? "%.1f %s" : "%.0f %s", value, unit);
    value /= 1000;
  }
  return format("%.2f GB", value);
}

double percent(int64_t part, int64_t whole) {
  return whole ? 100.0 * static_cast<double>(part) / static_cast<double>(whole) : 0;
}

}  // namespace

std::string summary_json(const RunSummary& summary) {
  Json json;
  each_field(summary, [&](const char* name, const auto& value) { json[name] = value; });
  return json.dump(2) + "\n";
}

Result<RunSummary> parse_summary(const std::string& text, const std::string& name) {
  Json json = Json::parse(text, nullptr, false);
  if (!json.is_object()) return make_status(StatusCode::data_error, name, ": not a JSON object");
  RunSummary summary;
  std::string wrong;
  each_field(summary, [&](const char* field, auto& value) {
    if (!wrong.empty()) return;
    try {
      const Json& entry = json.at(field);
      using Value = std::decay_t<decltype(value)>;
      // A loss that was not finite is written as null.
      if constexpr (std::is_same_v<Value, double>)
        value = entry.is_null() ? std::nan("") : entry.template get<double>();
      else
        value = entry.template get<Value>();
    } catch (const Json::exception&) {
      wrong = field;
    }
  });
  if (!wrong.empty()) return make_status(StatusCode::data_error, name, ": no valid \"", wrong, "\"");
  return summary;
}

std::string describe(const RunSummary& s) {
  std::string text = s.scheme + ", " + format("%lld", static_cast<long long>(s.workers)) +
                     (s.workers == 1 ? " worker, " : " workers, ") + s.model + " on " + s.data + "\n";
  // Where targets are numbers there is no accuracy.
  if (!std::isnan(s.test_accuracy))
    text += format("  test accuracy  %.4f  (%s)\n", s.test_accuracy, s.evaluated.c_str());
  text += format("  test loss      %.4f", s.test_loss);
  text += std::isnan(s.test_accuracy) ? "  (" + s.evaluated + ")\n" : "\n";
  text += format("  steps          %lld per worker, %.0f samples/s\n", static_cast<long long>(s.steps_per_worker),
                 s.samples_per_second);
  text += format("  time           %.1f s", s.wall_seconds);
  if (s.virtual_seconds > 0) text += format(", virtual %.3f s", s.virtual_seconds);
  text += "\n  sent           " + bytes_text(s.bytes_sent) + "\n";
  if (!std::isnan(s.consensus_distance))
    text += format("  apart          %.3g from the %s, root mean square over the workers\n", s.consensus_distance,
                   s.evaluated.c_str());
  if (!std::isnan(s.staleness_mean))
    text += format("  staleness      %.3g on average, at most %lld\n", s.staleness_mean,
                   static_cast<long long>(s.staleness_most));
  if (s.restarts > 0 || !s.lost.empty()) {
    text += format("  restarts       %lld", static_cast<long long>(s.restarts));
    for (size_t i = 0; i < s.lost.size(); ++i) text += format(i == 0 ? ", lost rank %d" : ", %d", s.lost[i]);
    text += "\n";
  }
  return text + "  parameters     sha256 " + s.parameters_sha256 + "\n";
}

std::string eval_json(const EvalReport& report) {
  Json json;
  json["weights"] = report.weights;
  json["data"] = report.data;
  json["test_accuracy"] = report.accuracy;
  json["test_loss"] = report.loss;
  json["samples"] = report.samples;
  json["classes"] = Json::array();
  for (const ClassAccuracy& c : report.classes)
    json["classes"].push_back({{"name", c.name}, {"samples", c.samples}, {"correct", c.correct}});
  return json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string describe(const EvalReport& report) {
  std::string text = report.weights + " on " + report.data + "\n";
  const auto samples = static_cast<long long>(report.samples);
  if (std::isnan(report.accuracy))
    return text + format("  test loss      %.4f  (%lld samples)\n", report.loss, samples);
  text += format("  test accuracy  %.4f  (%lld samples)\n  test loss      %.4f\n  by class\n", report.accuracy, samples,
                 report.loss);
  for (const ClassAccuracy& c : report.classes) {
    text += format("    %-14s %6.2f %%  %lld of %lld\n", c.name.c_str(), percent(c.correct, c.samples),
                   static_cast<long long>(c.correct), static_cast<long long>(c.samples));
  }
  return text;
}

}  // namespace sinew::train
