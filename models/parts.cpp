#include "models/parts.h"

#include <filesystem>
#include <fstream>
#include <sstream>

#include "models/weights_file.h"

namespace sinew::train {
namespace {

namespace fs = std::filesystem;

std::string parts_dir(const RunFolder& folder) { return folder.dir() + "/parts"; }
std::string part(const RunFolder& folder, int rank, const char* ending) {
  return parts_dir(folder) + "/rank-" + std::to_string(rank) + ending;
}

}  // namespace

Status write_part(const RunFolder& folder, const nn::Model& model, const NodeResult& result) {
  std::error_code error;
  fs::create_directories(parts_dir(folder), error);
  if (error) return make_status(StatusCode::io_error, "cannot make ", parts_dir(folder), ": ", error.message());
  const int rank = result.report.rank;
  if (result.point.defined())
    SINEW_RETURN_IF_ERROR(save_weights(part(folder, rank, ".safetensors"), model, result.point.view()));
  // Last: a report says that the rest of the part is there.
  return write_file(part(folder, rank, ".json"), node_report_json(result.report));
}

std::vector<NodeReport> read_parts(const RunFolder& folder, int nodes) {
  std::vector<NodeReport> reports;
  for (int rank = 0; rank < nodes; ++rank) {
    const std::string path = part(folder, rank, ".json");
    std::ifstream file(path);
    if (!file) continue;
    std::ostringstream text;
    text << file.rdbuf();
    if (Result<NodeReport> report = parse_node_report(text.str(), path); report.ok())
      reports.push_back(std::move(*report));
  }
  return reports;
}

Result<RunSummary> finish_parts(const RunContext& context, const RunFolder& folder,
                                const std::vector<NodeReport>& reports) {
  Result<RunSummary> summary = summarize(context, reports);
  if (!summary.ok()) return summary;
  std::error_code error;
  for (const NodeReport& report : reports) {
    if (!report.evaluation) continue;
    fs::rename(part(folder, report.rank, ".safetensors"), folder.model(), error);
    if (error) return make_status(StatusCode::io_error, "cannot write ", folder.model(), ": ", error.message());
    break;
  }
  fs::remove_all(parts_dir(folder), error);
  return summary;
}

}  // namespace sinew::train
