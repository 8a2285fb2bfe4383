// Options: every setting of a run, as plain structs, and the one table that describes them.
//
// The table (option_table.cpp) is the only list of settings. Flags, environment variables, configuration files, help,
// `sinew config` and the written config.toml are all generated from it. Where values come from and which source wins is
// models/config.h.
//
// A value has one text form. set_option reads it, option_text writes it, and
// set_option(option_text(x)) == x exactly, for every value in range.
//
//   kind       text                                     in a TOML file
//   text       anything                                 "string"
//   name       one of spec.names()                      "string"
//   integer    128                                      128
//   real       0.05, 1e-4                               0.05
//   toggle     true, false (also on, off, yes, no)      true
//   duration   5ms, 2s, 1m, 50us; plain: seconds        "5ms"
//   sizes      1024,1024 or none                        [1024, 1024]
//   reals      0.5,0.25 or none                         [0.5, 0.25]
//
// Thread safety: Options is a value; the table is constant.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/status.h"

namespace sinew::train {

// The initial values are the defaults. Those that depend on other settings (marked "derived") are filled in by
// derive_options; what they are derived from is in the table.
struct Options {
  struct Data {
    std::string name = "synthetic";
    std::string dir;
    std::string file, test_file;
    double test_share = 0.2;
    std::string layout = "nhwc";
    std::string label;
    std::string sharding = "full";  // derived
    double overlap = 0.25;
    double concentration = 0.5;
    bool stratify = false;
    double validation = 0;
    std::string augment = "none";
    int64_t crop = 0;
    int64_t padding = 0;  // derived
    int64_t resize = 0;
    std::vector<double> mean, std;
    std::string order = "shuffled";
    int64_t chunk = 512;
    int64_t chunk_loaders = 8;
    bool chunk_parts = false;
    int64_t threads = 1;
    int64_t train_size = 0;
  } data;
  struct Model {
    std::string name = "mlp";
    std::vector<int64_t> hidden = {256};
    std::string activation = "relu";
    std::string init = "pytorch_default";
    double dropout = 0;
    std::string weights;
  } model;
  struct Optim {
    std::string name = "momentum";  // derived
    double lr = 0.05;               // derived
    double momentum = 0.9;
    double weight_decay = 0;
    double decoupled_decay = 0;  // derived
    double clip_norm = 0;
    double beta1 = 0.9;    // derived
    double beta2 = 0.999;  // derived
    double eps = 1e-8;     // derived
    double rho = 0.01;     // derived
    double trust = 1e-3;
    double hessian_power = 1;
    int64_t hessian_every = 1;  // derived
    int64_t hessian_dense_steps = 0;
    int64_t hessian_samples = 1;
    std::string hessian_average = "abs_mean";
    int64_t hessian_block = 1;
    std::string hessian_stale = "keep";
    bool bias_correction = true;
    std::string schedule = "constant";
    double gamma = 1e-4;
    int64_t step_every = 1000;
    int64_t warmup_steps = 0;
  } optim;
  struct Scheme {
    std::string name = "local";  // derived
    int64_t period = 10;         // derived
    double alpha = 0;            // derived
    double beta = 0;             // derived
    std::string order = "jacobi";
    double probability = 1;
    std::string collision = "sum";
    std::string topology = "uniform";  // derived
    std::string edges;
    std::string mode = "sync";
    std::string mixing = "awc";
    std::string direction = "pull";
    int64_t overlap = 0;
    int64_t global_average_every = 0;
    double pull = 0.1;
    double pull_global = 0.1;
    int64_t period_global = 20;  // derived
    std::string groups;
    std::string leader = "running_train";
    int64_t loss_window = 10;
    int64_t probe = 500;
    double proximal = 0;
    double proximal_global = 0;
    std::string update_order = "pre";  // derived
    std::string weighting = "fixed";
    double kappa = 0;  // derived
    double s0 = 0;
    int64_t score_sign = 1;
    std::vector<double> score_coefficients = {0.5, 0.25, 0.15, 0.1};
    int64_t warmup_rounds = 10;
    bool peer_normalisation = false;
    std::string tree = "multi_scale";
    int64_t fan_out = 4;
    int64_t far_period = 100;  // derived
    std::string outer = "none";
    double outer_lr = 1;
    double outer_momentum = 0.9;  // derived
    double average_rate = 0.001;
    int64_t shard = 60 * 1024;
    std::string servers = "1";
    std::string wire = "f32";
    int64_t deadline = 10'000'000'000;  // nanoseconds, as all durations
    std::string bn = "average";
  } scheme;
  struct Train {
    int64_t epochs = 2;
    int64_t steps = 0;
    int64_t batch = 128;
    int64_t seed = 1;
    int64_t threads = 0;  // derived
    int64_t eval_every = 0;
    std::string precision = "f32";
    std::string graph = "auto";
    std::string kernels = "own";
    std::string nonfinite = "stop";
  } train;
  struct Run {
    std::string dir;
    std::string world = "ucx";
    std::string device = "cpu";
    int64_t workers = 1;
    int64_t restarts = 3;
    int64_t grace = 30'000'000'000;
    int64_t port = 0;
    std::string network = "lo";
    std::string communicator = "ring";
  } run;
  struct Sim {
    int64_t latency = 50'000;
    double bandwidth = 1.25e9;
    int64_t service = 1'000;
    int64_t step_seconds = 10'000'000;
    double jitter = 0.1;
    int64_t detection = 100'000'000;
    bool always_yield = false;
    int64_t threads = 0;  // derived
  } sim;
  struct Fault {
    std::string plan;
  } fault;
  struct Log {
    std::string level = "info";
    int64_t every = 10'000'000'000;
    std::string progress = "auto";
  } log;
};

enum class OptionKind { text, name, integer, real, toggle, duration, sizes, reals };

using OptionField =
    std::variant<std::string& (*)(Options&), int64_t& (*)(Options&), double& (*)(Options&), bool& (*)(Options&),
                 std::vector<int64_t>& (*)(Options&), std::vector<double>& (*)(Options&)>;

struct OptionSpec {
  const char* key;  // "scheme.alpha": the flag without dashes and the TOML path
  OptionField field;
  OptionKind kind;
  const char* help;         // one line
  const char* alias = "";   // "--lr" is alias "lr"
  const char* unit = "";    // of a plain number
  double min = 0, max = 0;  // integer, real, duration (seconds), each element of sizes and reals
  std::vector<std::string> (*names)() = nullptr;
  const char* derived = "";  // how the default follows from other settings
  bool path = false;         // a file or directory; made absolute, so that config.toml works from anywhere
  bool repeats = true;       // false: names this run and is left out of config.toml
};

const std::vector<OptionSpec>& option_table();
// By key or alias; nullptr when there is none.
const OptionSpec* find_option(std::string_view key_or_alias);
// "data", "model", ... in the order of the table.
std::vector<std::string> option_sections();

// Reads one value. invalid_argument: "<where>: ..." with the value, what is allowed and an example to type. `where`
// is what the user wrote the value behind: "--lr", "SINEW_OPTIM_LR", "run.toml:12: optim.lr".
Status set_option(Options& options, const OptionSpec& spec, const std::string& text, const std::string& where);
std::string option_text(const Options& options, const OptionSpec& spec);
// "0 to 1", "relu, tanh or sigmoid", "a duration from 0s to 1h (5ms, 2s, 1m)".
std::string allowed_values(const OptionSpec& spec);
// The default as the help shows it: the text, or what it is derived from.
std::string default_text(const OptionSpec& spec);
// "SINEW_SCHEME_ALPHA" for scheme.alpha.
std::string environment_name(const OptionSpec& spec);

// The candidate that the user may have meant, or "": small edit distance (a swap of neighbours counts one), or the
// same last part ("alpha" for "scheme.alpha").
std::string nearest_match(std::string_view word, const std::vector<std::string>& candidates);
// "; did you mean easgd?", or "; " and the other advice.
std::string did_you_mean(std::string_view word, const std::vector<std::string>& candidates, std::string_view otherwise);

}  // namespace sinew::train
