// metrics.jsonl: one measurement a line, from all processes of a run.
//
// Every line says which worker measured what at which step and time. A line is appended by one write of less than
// 4096 bytes to a file opened with O_APPEND, so lines of several processes never mix, and a process that is killed
// leaves whole lines only.
//
// {"step":400,"epoch":0.85,"wall_seconds":3.1,"virtual_seconds":0,"bytes_sent":12,"bytes_received":12,"worker":0,
//  "measured":"own","loss":0.31,"accuracy":0.9}
//
// A value that is NaN or infinite is null. Thread safety: a writer may be shared between threads; a reader is used by
// one.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/status.h"

namespace sinew::train {

struct MetricsRecord {
  int64_t step = 0;                            // of this worker, finished
  double epoch = 0;                            // of this worker, with fraction
  double wall_seconds = 0;                     // since this process began; a restarted one starts again
  double virtual_seconds = 0;                  // simulated time; 0 in a real run
  int64_t bytes_sent = 0, bytes_received = 0;  // by this node, so far
  int worker = 0;
  std::string measured = "own";  // own, average or center: which parameters; exchange, round: what happened in one
  // loss, accuracy (training, since the last record), test_loss, test_accuracy, lr, ...; of an exchange h1, h2, score,
  // distance; of a round with a leader round, leader, leader_of_all (-1: none), own_loss, distance, steps
  std::vector<std::pair<std::string, double>> values;
  std::string reason;  // of what happened, where there is one to give; empty: not written

  // NaN when there is no such value.
  double value(const std::string& name) const;
};

std::string metrics_line(const MetricsRecord& record);  // without the newline
Result<MetricsRecord> parse_metrics_line(const std::string& line, const std::string& where);

class MetricsWriter {
 public:
  static Result<MetricsWriter> open(const std::string& path);  // io_error
  MetricsWriter(MetricsWriter&& other) noexcept : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)) {}
  MetricsWriter& operator=(MetricsWriter&& other) noexcept {
    std::swap(path_, other.path_);
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~MetricsWriter();
  Status append(const MetricsRecord& record);  // io_error

 private:
  MetricsWriter(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  std::string path_;
  int fd_ = -1;
};

// Follows a file that others append to.
class MetricsReader {
 public:
  explicit MetricsReader(std::string path) : path_(std::move(path)) {}
  // The lines completed since the last call; none while the file does not exist. data_error names the line.
  Result<std::vector<MetricsRecord>> poll();

 private:
  std::string path_;
  int64_t offset_ = 0;
  int64_t line_ = 0;
};

}  // namespace sinew::train
