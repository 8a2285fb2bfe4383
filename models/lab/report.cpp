#include "models/lab/report.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "models/run_folder.h"

namespace sinew::train::lab {
namespace {

std::string text_of(const Cell& cell) {
  if (const std::string* text = std::get_if<std::string>(&cell)) return *text;
  char digits[32];
  std::snprintf(digits, sizeof digits, "%.7g", std::get<double>(cell));
  return digits;
}

}  // namespace

std::string text_of(const Table& table) {
  std::vector<size_t> widths;
  for (const std::string& column : table.columns) widths.push_back(column.size());
  for (const auto& row : table.rows)
    for (size_t i = 0; i < row.size(); ++i) widths.at(i) = std::max(widths[i], text_of(row[i]).size());
  auto line = [&](auto text_at, size_t n) {
    std::string out;
    for (size_t i = 0; i < n; ++i) {
      const std::string text = text_at(i);
      out += "  " + std::string(widths[i] - text.size(), ' ') + text;
    }
    return out + "\n";
  };
  std::string out = table.title + "\n" + line([&](size_t i) { return table.columns[i]; }, table.columns.size());
  for (const auto& row : table.rows) out += line([&](size_t i) { return text_of(row[i]); }, row.size());
  return out;
}

std::string json_of(const Report& report, const std::string& lab, int64_t seed) {
  using Json = nlohmann::ordered_json;
  Json json{{"lab", lab}, {"seed", seed}, {"tables", Json::object()}};
  for (const Table& table : report.tables) {
    Json rows = Json::array();
    for (const auto& row : table.rows) {
      Json cells = Json::array();
      for (const Cell& cell : row) {
        if (const std::string* text = std::get_if<std::string>(&cell))
          cells.push_back(*text);
        else if (const double v = std::get<double>(cell); std::isfinite(v))
          cells.push_back(v);
        else
          cells.push_back(nullptr);
      }
      rows.push_back(std::move(cells));
    }
    json["tables"][table.name] = {{"title", table.title}, {"columns", table.columns}, {"rows", std::move(rows)}};
  }
  return json.dump(1) + "\n";
}

Result<std::vector<std::string>> write_report(const Report& report, const std::string& lab, int64_t seed,
                                              const std::string& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) return make_status(StatusCode::io_error, "--out: cannot create ", folder, ": ", error.message());
  std::vector<std::string> files;
  for (const Picture& picture : report.pictures) {
    files.push_back(folder + "/" + picture.name + ".svg");
    SINEW_RETURN_IF_ERROR(write_file(files.back(), picture.svg));
  }
  files.push_back(folder + "/" + lab + ".json");
  SINEW_RETURN_IF_ERROR(write_file(files.back(), json_of(report, lab, seed)));
  return files;
}

}  // namespace sinew::train::lab
