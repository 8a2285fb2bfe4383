#include "models/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <ostream>

namespace sinew::train {
namespace {

constexpr double kRedrawSeconds = 0.1;
constexpr const char* kEraseLine = "\r\x1b[K";
constexpr int kNarrowestBar = 5, kWidestBar = 20;

double fraction(const ProgressState& state) {
  if (state.total_steps <= 0) return 0;
  return std::clamp(static_cast<double>(state.step) / static_cast<double>(state.total_steps), 0.0, 1.0);
}

template <class... Values>
std::string format(const char* pattern, Values... values) {
  std::array<char, 128> text;
  std::snprintf(text.data(), text.size(), pattern, values...);
  return text.data();
}

std::string rate_text(double rate) {
  if (rate >= 1e6) return format("%.2fM", rate / 1e6);
  if (rate >= 1e4) return format("%.1fk", rate / 1e3);
  return format("%.0f", rate);
}

std::string clock_text(double seconds) {
  auto total = static_cast<long long>(std::min(seconds, 1e9) + 0.5);
  if (total >= 3600) return format("%lld:%02lld:%02lld", total / 3600, total / 60 % 60, total % 60);
  return format("%lld:%02lld", total / 60, total % 60);
}

}  // namespace

ProgressMode progress_mode(const std::string& option, bool terminal) {
  if (option == "none") return ProgressMode::none;
  if (option == "bar" || (option == "auto" && terminal)) return ProgressMode::bar;
  return ProgressMode::plain;
}

bool color_allowed(bool terminal) {
  const char* no_color = std::getenv("NO_COLOR");
  return terminal && !(no_color && *no_color);
}

std::string progress_text(const ProgressState& state) {
  std::string text =
      format("step %lld/%lld", static_cast<long long>(state.step), static_cast<long long>(state.total_steps));
  if (!std::isnan(state.loss)) text += format(std::abs(state.loss) < 1e4 ? "  loss %.4f" : "  loss %.3g", state.loss);
  if (!std::isnan(state.accuracy)) text += format("  acc %.3f", state.accuracy);
  text += "  " + rate_text(state.samples_per_second) + " samples/s";
  text += format("  alive %d/%d", state.alive, state.nodes);
  double done = fraction(state);
  if (done > 0 && done < 1) text += "  ETA " + clock_text(state.elapsed_seconds * (1 - done) / done);
  return text;
}

std::string progress_bar(const ProgressState& state, int width, bool color) {
  double done = fraction(state);
  std::string text = format("%3.0f %%  ", std::floor(100 * done)) + progress_text(state);
  int cells = std::min(width - static_cast<int>(text.size()) - 3, kWidestBar);  // what brackets and a blank leave
  if (cells < kNarrowestBar) return text.substr(0, static_cast<size_t>(std::max(width, 0)));
  int filled = static_cast<int>(done * cells);
  std::string bar =
      "[" + std::string(static_cast<size_t>(filled), '#') + std::string(static_cast<size_t>(cells - filled), ' ') + "]";
  return (color ? "\x1b[32m" + bar + "\x1b[0m" : bar) + " " + text;
}

Progress::Settings Progress::for_stderr(const std::string& option, double every_seconds) {
  bool terminal = isatty(STDERR_FILENO) != 0;
  winsize size{};
  bool known = terminal && ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1;
  return {.mode = progress_mode(option, terminal),
          .every_seconds = every_seconds,
          .width = known ? size.ws_col - 1 : 79,  // a full last column would wrap on some terminals
          .color = color_allowed(terminal)};
}

void Progress::update(const ProgressState& state) {
  if (settings_.mode == ProgressMode::none || state.elapsed_seconds < next_) return;
  if (settings_.mode == ProgressMode::bar) {
    out_ << kEraseLine + progress_bar(state, settings_.width, settings_.color) << std::flush;
    drawn_ = true;
    next_ = state.elapsed_seconds + kRedrawSeconds;
  } else {
    out_ << progress_text(state) + "\n" << std::flush;
    next_ = state.elapsed_seconds + settings_.every_seconds;
  }
}

void Progress::note(const std::string& text) {
  out_ << (drawn_ ? kEraseLine : "") + text + "\n" << std::flush;
  drawn_ = false;
  if (settings_.mode == ProgressMode::bar) next_ = 0;  // draw the bar again at once
}

void Progress::finish(const ProgressState& state) {
  if (settings_.mode == ProgressMode::none) return;
  next_ = 0;
  update(state);
  stop();
}

void Progress::stop() {
  if (drawn_) out_ << "\n" << std::flush;
  drawn_ = false;
}

}  // namespace sinew::train
