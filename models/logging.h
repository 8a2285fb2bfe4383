// Log lines: "2026-01-31T12:00:00.123Z worker 2 warning: center silent for 1.2 s", each by one write, so that lines of
// several processes or threads never mix.
//
// In a job every process has log/rank-N.log as its standard error; a Logger to standard error is therefore right
// everywhere. Thread safety: all methods from any thread.
#pragma once

#include <string>
#include <utility>

#include "core/check.h"

namespace sinew::train {

enum class LogLevel { debug, info, warning, error };
LogLevel log_level_named(const std::string& name);  // a value of log.level; throws Error otherwise

// time: UTC nanoseconds since 1970. Line breaks in the text become spaces.
std::string log_line(int64_t time, const std::string& node, LogLevel level, const std::string& text);

class Logger {
 public:
  // node: "worker 2", "center", "supervisor". Writes to the file descriptor, which it does not own.
  Logger(std::string node, LogLevel least, int fd = 2) : node_(std::move(node)), least_(least), fd_(fd) {}

  template <class... Parts>
  void debug(const Parts&... parts) const {
    log(LogLevel::debug, parts...);
  }
  template <class... Parts>
  void info(const Parts&... parts) const {
    log(LogLevel::info, parts...);
  }
  template <class... Parts>
  void warning(const Parts&... parts) const {
    log(LogLevel::warning, parts...);
  }
  template <class... Parts>
  void error(const Parts&... parts) const {
    log(LogLevel::error, parts...);
  }

 private:
  template <class... Parts>
  void log(LogLevel level, const Parts&... parts) const {
    if (level >= least_) write(level, sinew::detail::concat(parts...));
  }
  void write(LogLevel level, const std::string& text) const;

  std::string node_;
  LogLevel least_;
  int fd_;
};

// The last line "sinew: ..." of a process's log without that prefix: why it ended. "" when there is none.
std::string last_error_in(const std::string& log_path);

}  // namespace sinew::train
