#include "models/run_folder.h"

#include <fcntl.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/cpu/cpu_info.h"
#include "dist/ucx/ucx_world.h"

namespace sinew::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

std::string utc_now(const char* format) {
  std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  char text[64];
  std::strftime(text, sizeof(text), format, &utc);
  return text;
}

Status cannot_create(const std::string& dir, const std::error_code& error) {
  return make_status(StatusCode::io_error, "cannot create the run folder ", dir, ": ", error.message(),
                     "; choose another one with --out DIR");
}

// The files that make a folder the folder of a run.
std::string run_file_in(const std::string& dir) {
  for (const char* name : {"summary.json", "config.toml", "metrics.jsonl", "model.safetensors", "status.json"})
    if (fs::exists(dir + "/" + name)) return name;
  return "";
}

Status holds_a_run(const std::string& dir, const std::string& file) {
  return make_status(StatusCode::invalid_argument, "--out: ", dir, " already holds a ",
                     file == "summary.json" ? "finished" : "started", " run (", file,
                     "); choose another folder, or remove it: rm -r ", shell_line({dir}));
}

// command.txt is made by one process only: of two runs that start at once in one folder, one is refused.
Status claim(const std::string& dir, const std::string& command) {
  const std::string path = dir + "/command.txt";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0 && errno == EEXIST) return holds_a_run(dir, "command.txt");
  const bool written = fd >= 0 && ::write(fd, command.data(), command.size()) == static_cast<ssize_t>(command.size());
  const int error = errno;
  if (fd >= 0) ::close(fd);
  if (fd >= 0 && !written) ::unlink(path.c_str());
  return written ? Status::Ok() : make_status(StatusCode::io_error, "cannot write ", path, ": ", std::strerror(error));
}

Result<std::string> make_named_folder(const std::string& dir) {
  std::error_code error;
  fs::create_directories(dir, error);
  if (error || !fs::is_directory(dir))
    return cannot_create(dir, error ? error : std::make_error_code(std::errc::not_a_directory));
  if (std::string file = run_file_in(dir); !file.empty()) return holds_a_run(dir, file);
  return dir;
}

Result<std::string> make_numbered_folder(const Options& options) {
  std::error_code error;
  fs::create_directories("runs", error);
  std::string stem = "runs/" + utc_now("%Y%m%d") + "-" + options.model.name + "-" + options.scheme.name + "-";
  for (int k = 1; !error; ++k) {
    std::string dir = fs::absolute(stem + std::to_string(k)).string();
    if (fs::create_directory(dir, error)) return dir;  // false when it exists: only one process gets each number
  }
  return cannot_create(stem + "1", error);
}

std::string processor() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name")) return line.substr(line.find(": ") + 2);
  return "unknown";
}

}  // namespace

Status write_file(const std::string& path, const std::string& text) {
  std::string temporary = path + "." + std::to_string(getpid()) + ".tmp";
  std::ofstream out(temporary, std::ios::binary);
  out << text;
  out.close();
  if (!out || std::rename(temporary.c_str(), path.c_str()) != 0) {
    int error = errno;
    std::remove(temporary.c_str());
    return make_status(StatusCode::io_error, "cannot write ", path, ": ", std::strerror(error));
  }
  return Status::Ok();
}

std::string shell_line(const std::vector<std::string>& words) {
  constexpr const char* kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=,:+@%";
  std::string line;
  for (const std::string& word : words) {
    line += line.empty() ? "" : " ";
    if (!word.empty() && word.find_first_not_of(kPlain) == std::string::npos) {
      line += word;
      continue;
    }
    line += "'";
    for (char c : word) line += c == '\'' ? "'\\''" : std::string(1, c);
    line += "'";
  }
  return line;
}

std::vector<std::pair<std::string, std::string>> environment_facts() {
  utsname system{};
  uname(&system);
  return {
      {"sinew", SINEW_VERSION},
      {"compiler", SINEW_COMPILER},
      {"build_type", SINEW_BUILD_TYPE},
      {"onednn", SINEW_WITH_ONEDNN ? "yes" : "no"},
      {"ucx", dist::ucx_available() ? "yes" : "no"},
      {"openmp", SINEW_WITH_OPENMP ? "yes" : "no"},
      {"cuda", SINEW_WITH_CUDA},
      {"processor", processor()},
      {"kernels", cpu_isa_name()},
      {"cores", std::to_string(std::thread::hardware_concurrency())},
      {"host", system.nodename},
      {"system", std::string(system.sysname) + " " + system.release + " " + system.machine},
  };
}

Result<RunFolder> RunFolder::create(Configuration& configuration, const std::vector<std::string>& command) {
  const std::string& wanted = configuration.options.run.dir;
  Result<std::string> dir = wanted.empty() ? make_numbered_folder(configuration.options) : make_named_folder(wanted);
  if (!dir.ok()) return dir.status();
  RunFolder folder(*dir);
  configuration.options.run.dir = *dir;
  SINEW_RETURN_IF_ERROR(claim(*dir, shell_line(command) + "\n"));
  Status status = folder.write_beginning(configuration);
  if (status.ok()) return folder;
  // As if nothing had been tried: the same command can be typed again.
  std::error_code error;
  for (const char* name : {"/config.toml", "/command.txt", "/env.json"}) fs::remove(*dir + name, error);
  if (fs::is_directory(*dir + "/log", error)) fs::remove(*dir + "/log", error);
  fs::remove(*dir, error);
  return status;
}

Status RunFolder::write_beginning(const Configuration& configuration) const {
  std::error_code error;
  fs::create_directory(dir_ + "/log", error);
  if (error) return cannot_create(dir_, error);
  Json facts;
  facts["date"] = utc_now("%Y-%m-%dT%H:%M:%SZ");
  for (const auto& [name, value] : environment_facts()) facts[name] = value;
  SINEW_RETURN_IF_ERROR(write_file(config(), write_config(configuration)));
  return write_file(dir_ + "/env.json", facts.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

Result<RunFolder> RunFolder::join(const std::string& dir) {
  std::error_code error;
  fs::create_directories(dir + "/log", error);
  if (error) return cannot_create(dir, error);
  return RunFolder(dir);
}

void RunFolder::remove_if_unused() const {
  std::error_code error;
  if (fs::exists(metrics()) || fs::exists(status()) || !fs::is_empty(dir_ + "/log", error) || error) return;
  for (const char* name : {"/config.toml", "/command.txt", "/env.json", "/log", ""}) fs::remove(dir_ + name, error);
}

Status RunFolder::write_status(const std::string& state, const std::vector<NodeStatus>& nodes) const {
  Json json;
  json["state"] = state;
  json["updated"] = utc_now("%Y-%m-%dT%H:%M:%SZ");
  json["processes"] = Json::array();
  for (const NodeStatus& node : nodes) {
    json["processes"].push_back({{"rank", node.rank},
                                 {"role", node.role},
                                 {"pid", node.pid},
                                 {"state", node.state},
                                 {"step", node.step},
                                 {"restarts", node.restarts}});
  }
  return write_file(status(), json.dump(2) + "\n");
}

}  // namespace sinew::train
