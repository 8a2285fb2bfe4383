#include "models/logging.h"

#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <fstream>

namespace sinew::train {
namespace {

constexpr std::array<const char*, 4> kLevels = {"debug", "info", "warning", "error"};
constexpr int64_t kSecond = 1'000'000'000;

}  // namespace

LogLevel log_level_named(const std::string& name) {
  auto level = std::find(kLevels.begin(), kLevels.end(), name);
  SINEW_CHECK(level != kLevels.end(), "log_level", "no level '", name, "'");
  return static_cast<LogLevel>(level - kLevels.begin());
}

std::string log_line(int64_t time, const std::string& node, LogLevel level, const std::string& text) {
  time_t seconds = time / kSecond;
  tm utc{};
  gmtime_r(&seconds, &utc);
  std::array<char, 32> date, fraction;
  strftime(date.data(), date.size(), "%Y-%m-%dT%H:%M:%S", &utc);
  std::snprintf(fraction.data(), fraction.size(), ".%03dZ ", static_cast<int>(time % kSecond / 1'000'000));
  std::string line =
      date.data() + std::string(fraction.data()) + node + " " + kLevels[static_cast<size_t>(level)] + ": " + text;
  std::replace(line.begin(), line.end(), '\n', ' ');
  return line + "\n";
}

void Logger::write(LogLevel level, const std::string& text) const {
  timespec now{};
  clock_gettime(CLOCK_REALTIME, &now);
  std::string line = log_line(now.tv_sec * kSecond + now.tv_nsec, node_, level, text);
  // A log that cannot be written must not end a training run.
  [[maybe_unused]] ssize_t ignored = ::write(fd_, line.data(), line.size());
}

std::string last_error_in(const std::string& log_path) {
  const std::string prefix = "sinew: ";
  std::string last;
  std::ifstream in(log_path);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with(prefix)) last = line.substr(prefix.size());
  return last;
}

}  // namespace sinew::train
