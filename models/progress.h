// How far a run is: one redrawn line on a terminal, elsewhere a plain line every so often and never a carriage return.
//
//   [#########           ]  45 %  step 421/936  loss 0.2113  acc 0.936  41.2k samples/s  alive 5/5  ETA 0:09
//
// The only clock is the caller's: ProgressState::elapsed_seconds. Thread safety: one thread at a time.
#pragma once

#include <cstdint>
#include <iosfwd>
#include <limits>
#include <string>

namespace sinew::train {

struct ProgressState {
  int64_t step = 0, total_steps = 0;                       // of the slowest worker
  double loss = std::numeric_limits<double>::quiet_NaN();  // NaN: not known yet
  double accuracy = std::numeric_limits<double>::quiet_NaN();
  double samples_per_second = 0;
  int alive = 1, nodes = 1;
  double elapsed_seconds = 0;
};

enum class ProgressMode { none, plain, bar };
// From log.progress (auto, bar, plain, none): auto is bar on a terminal.
ProgressMode progress_mode(const std::string& option, bool terminal);
// NO_COLOR (https://no-color.org) is respected: any non-empty value turns colours off.
bool color_allowed(bool terminal);

// The fields as text, without the bar: "step 421/936  loss ...".
std::string progress_text(const ProgressState& state);
// With a percentage and as much of a bar as `width` columns leave room for; never wider.
std::string progress_bar(const ProgressState& state, int width, bool color);

class Progress {
 public:
  struct Settings {
    ProgressMode mode = ProgressMode::plain;
    double every_seconds = 10;  // between plain lines; the bar is redrawn at most ten times a second
    int width = 80;             // of the terminal
    bool color = false;
  };
  Progress(const Settings& settings, std::ostream& out) : settings_(settings), out_(out) {}
  // For standard error, as log.progress and the terminal say.
  static Settings for_stderr(const std::string& option, double every_seconds);

  // Cheap when it is not yet time to show anything; call it as often as you like.
  void update(const ProgressState& state);
  // A line of its own, above the bar.
  void note(const std::string& text);
  // Shows the last state whatever the time, and ends the line.
  void finish(const ProgressState& state);
  // Leaves a drawn bar as it is, and says no more.
  void stop();

 private:
  Settings settings_;
  std::ostream& out_;
  double next_ = 0;
  bool drawn_ = false;
};

}  // namespace sinew::train
