#include "models/parts.h"

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <type_traits>

#include "models/weights_file.h"

namespace sinew::train {
namespace {

namespace fs = std::filesystem;

std::string parts_dir(const RunFolder& folder) { return folder.dir() + "/parts"; }

// One list of fields for writing and reading.
template <class Report, class Fn>
void each_field(Report& r, Fn fn) {
  fn("rank", r.rank);
  fn("role", r.role);
  fn("state", r.state);
  fn("pid", r.pid);
  fn("restarts", r.restarts);
  fn("steps", r.counters.steps);
  fn("samples", r.counters.samples);
  fn("train_seconds", r.counters.train_seconds);
  fn("bytes_sent", r.counters.bytes_sent);
  fn("bytes_received", r.counters.bytes_received);
  fn("exchanges", r.counters.exchanges);
  fn("missed", r.counters.missed);
  fn("refused", r.counters.refused);
  fn("exchanges_lost", r.counters.exchanges_lost);
  fn("staleness_count", r.counters.staleness.count);
  fn("staleness_sum", r.counters.staleness.sum);
  fn("staleness_most", r.counters.staleness.most);
  fn("distance", r.distance);
  fn("evaluated", r.evaluated);
}

}  // namespace

void make_parts(const RunFolder& folder) {
  std::error_code error;
  fs::create_directories(parts_dir(folder), error);
}

std::string part_file(const RunFolder& folder, int rank, const char* ending) {
  return parts_dir(folder) + "/" + (rank < 0 ? "" : "rank-" + std::to_string(rank)) + ending;
}

std::string node_report_json(const NodeReport& report) {
  nlohmann::ordered_json json;
  each_field(report, [&](const char* name, const auto& value) { json[name] = value; });
  return json.dump(2) + "\n";
}

Result<NodeReport> parse_node_report(const std::string& text, const std::string& name) {
  try {
    const auto json = nlohmann::json::parse(text);
    NodeReport report;
    each_field(report, [&](const char* field, auto& value) {
      // What is not a number was written as null, and stays what it is.
      if (std::is_same_v<decltype(value), double&> && json.at(field).is_null()) return;
      json.at(field).get_to(value);
    });
    return report;
  } catch (const nlohmann::json::exception& e) {
    return make_status(StatusCode::data_error, name, ": ", e.what());
  }
}

Status write_report(const RunFolder& folder, const NodeReport& report) {
  return write_file(part_file(folder, report.rank, ".json"), node_report_json(report));
}

Status write_point(const RunFolder& folder, const nn::Model& model, const NodeResult& result) {
  if (!result.point.defined()) return Status::Ok();
  return save_weights(part_file(folder, result.report.rank, ".safetensors"), model, result.point.view());
}

std::vector<NodeReport> read_parts(const RunFolder& folder, int nodes) {
  std::vector<NodeReport> reports;
  for (int rank = 0; rank < nodes; ++rank) {
    const std::string path = part_file(folder, rank, ".json");
    std::ifstream file(path);
    if (!file) continue;
    std::ostringstream text;
    text << file.rdbuf();
    if (Result<NodeReport> report = parse_node_report(text.str(), path); report.ok() && report->rank == rank)
      reports.push_back(std::move(*report));
  }
  return reports;
}

Result<RunSummary> finish_parts(const RunContext& context, const RunFolder& folder) {
  const int nodes = dist::node_count(context.scheme);
  std::vector<NodeReport> reports = read_parts(folder, nodes);
  std::vector<int> lost;
  int64_t restarts = 0;
  for (int rank = 0, next = 0; rank < nodes; ++rank) {
    const bool there = next < static_cast<int>(reports.size()) && reports[static_cast<size_t>(next)].rank == rank;
    if (!there || reports[static_cast<size_t>(next)].state != "finished") lost.push_back(rank);
    next += there;
  }
  bool found = false;
  for (NodeReport& report : reports) {
    restarts += report.restarts;
    const std::string path = part_file(folder, report.rank, ".safetensors");
    if (found || report.state != "finished" || !fs::exists(path)) continue;
    found = true;
    Result<Vec> point = load_weights(path, context.model);
    if (!point.ok()) return point.status();
    std::error_code error;
    fs::rename(path, folder.model(), error);  // no second copy: the disk may have no room for it
    if (error) return make_status(StatusCode::io_error, "cannot write ", folder.model(), ": ", error.message());
    NodeResult measured{.report = report, .point = std::move(*point)};
    SINEW_RETURN_IF_ERROR(measure(context, measured));
    if (context.model.buffer_layout().size() > 0)  // measuring may have set them
      SINEW_RETURN_IF_ERROR(save_weights(folder.model(), context.model, measured.point.view()));
    report = std::move(measured.report);
  }
  Result<RunSummary> summary = summarize(context, reports);
  if (!summary.ok()) return summary;
  summary->lost = std::move(lost);
  summary->restarts = restarts;
  return summary;
}

void remove_parts(const RunFolder& folder) {
  std::error_code error;
  fs::remove_all(parts_dir(folder), error);
}

}  // namespace sinew::train
