#include "models/zoo/zoo.h"

#include <array>

#include "models/zoo/mlp.h"

namespace sinew::train {
namespace {

Result<nn::Model> make_mlp_of(const Options::Model& options, const Shape& input, int64_t outputs) {
  MlpOptions mlp{.input = input,
                 .hidden = options.hidden,
                 .outputs = outputs,
                 .activation = options.activation,
                 .init = options.init,
                 .dropout = options.dropout};
  SINEW_RETURN_IF_ERROR(validate(mlp));
  return make_mlp(mlp);
}

struct Entry {
  const char* name;
  const char* about;
  Result<nn::Model> (*make)(const Options::Model&, const Shape& input, int64_t outputs);
};
constexpr std::array<Entry, 1> kZoo = {{
    {"mlp", "fully connected layers of the widths in model.hidden", make_mlp_of},
}};

}  // namespace

std::vector<std::string> model_names() {
  std::vector<std::string> names;
  for (const Entry& entry : kZoo) names.emplace_back(entry.name);
  return names;
}

std::string describe_model(const std::string& name) {
  for (const Entry& entry : kZoo)
    if (name == entry.name) return entry.about;
  return "";
}

Result<nn::Model> make_model(const Options::Model& options, const Shape& input, int64_t outputs) {
  for (const Entry& entry : kZoo)
    if (options.name == entry.name) return entry.make(options, input, outputs);
  return make_status(StatusCode::invalid_argument, "model.name: there is no model '", options.name, "'",
                     did_you_mean(options.name, model_names(), "`sinew list` shows all"));
}

}  // namespace sinew::train
