#include "models/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

namespace sinew::train {
namespace {

using Json = nlohmann::ordered_json;
constexpr size_t kLongestLine = 4096;  // appends up to this size are never mixed with others

// One list of the fixed fields for writing and reading.
template <class Record, class Fn>
void each_field(Record& record, Fn fn) {
  fn("step", record.step);
  fn("epoch", record.epoch);
  fn("wall_seconds", record.wall_seconds);
  fn("virtual_seconds", record.virtual_seconds);
  fn("bytes_sent", record.bytes_sent);
  fn("bytes_received", record.bytes_received);
  fn("worker", record.worker);
  fn("measured", record.measured);
}

}  // namespace

double MetricsRecord::value(const std::string& name) const {
  for (const auto& [key, value] : values)
    if (key == name) return value;
  return std::numeric_limits<double>::quiet_NaN();
}

std::string metrics_line(const MetricsRecord& record) {
  Json json;
  each_field(record, [&](const char* name, const auto& value) { json[name] = value; });
  for (const auto& [name, value] : record.values) json[name] = value;
  if (!record.reason.empty()) json["reason"] = record.reason;
  return json.dump();
}

Result<MetricsRecord> parse_metrics_line(const std::string& line, const std::string& where) {
  Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return make_status(StatusCode::data_error, where, ": not a JSON object");
  MetricsRecord record;
  std::string wrong;
  each_field(record, [&](const char* name, auto& value) {
    using Value = std::decay_t<decltype(value)>;
    bool fits =
        json.contains(name) && (std::is_same_v<Value, std::string> ? json[name].is_string() : json[name].is_number());
    if (fits) value = json[name].template get<Value>();
    if (!fits && wrong.empty()) wrong = name;
    json.erase(name);
  });
  if (!wrong.empty()) return make_status(StatusCode::data_error, where, ": no valid \"", wrong, "\"");
  if (json.contains("reason") && json["reason"].is_string()) {
    record.reason = json["reason"];
    json.erase("reason");
  }
  for (const auto& [name, value] : json.items())
    record.values.emplace_back(name,
                               value.is_number() ? value.get<double>() : std::numeric_limits<double>::quiet_NaN());
  return record;
}

Result<MetricsWriter> MetricsWriter::open(const std::string& path) {
  int fd = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return make_status(StatusCode::io_error, "cannot write ", path, ": ", std::strerror(errno));
  return MetricsWriter(path, fd);
}

MetricsWriter::~MetricsWriter() {
  if (fd_ >= 0) ::close(fd_);
}

Status MetricsWriter::append(const MetricsRecord& record) {
  std::string line = metrics_line(record) + "\n";
  SINEW_CHECK(line.size() <= kLongestLine, "metrics", "a line of ", line.size(), " bytes; at most ", kLongestLine);
  ssize_t written;
  do {
    written = ::write(fd_, line.data(), line.size());
  } while (written < 0 && errno == EINTR);
  if (written != static_cast<ssize_t>(line.size()))
    return make_status(StatusCode::io_error, "cannot write ", path_, ": ",
                       written < 0 ? std::strerror(errno) : "no space left");
  return Status::Ok();
}

Result<std::vector<MetricsRecord>> MetricsReader::poll() {
  std::vector<MetricsRecord> records;
  std::ifstream in(path_, std::ios::binary);
  if (!in) return records;
  in.seekg(offset_);
  std::string line;
  while (std::getline(in, line) && !in.eof()) {  // a last line without its newline is not complete yet
    offset_ += static_cast<int64_t>(line.size()) + 1;
    ++line_;
    Result<MetricsRecord> record = parse_metrics_line(line, path_ + ":" + std::to_string(line_));
    if (!record.ok()) return record.status();
    records.push_back(std::move(*record));
  }
  return records;
}

}  // namespace sinew::train
