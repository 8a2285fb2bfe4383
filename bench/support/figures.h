// What benchmarks that are plain programs share: options, medians, lines for scripts/bench/table.py.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

namespace sinew::bench {

inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n == 0 ? 0 : (values[(n - 1) / 2] + values[n / 2]) / 2;
}

// One line that scripts/bench/table.py understands: microseconds, lower is better.
inline void report(const std::string& peer, const std::string& name, double seconds) {
  std::printf("%s\t%s\t%.1f\n", peer.c_str(), name.c_str(), seconds * 1e6);
  std::fflush(stdout);
}

// Options whose values are lists of positive integers: "--floats 1000,25000000". False, and a line on stderr, when the
// arguments are anything else.
inline bool read_lists(int argc, char** argv, std::map<std::string, std::vector<int64_t>*> options) {
  for (int i = 1; i < argc; i += 2) {
    const auto option = options.find(argv[i]);
    std::vector<int64_t> values;
    for (const char* at = i + 1 < argc ? argv[i + 1] : ""; *at;) {
      char* end = nullptr;
      values.push_back(std::strtoll(at, &end, 10));
      if (end == at || values.back() < 1 || (*end && *end != ',')) values.clear(), end = const_cast<char*>("");
      at = *end ? end + 1 : end;
    }
    if (option == options.end() || values.empty()) {
      std::fprintf(stderr, "%s: needs an option and a list like 1,1000; see the top of the source\n", argv[i]);
      return false;
    }
    *option->second = values;
  }
  return true;
}

}  // namespace sinew::bench
