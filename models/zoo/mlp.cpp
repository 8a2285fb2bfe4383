#include "models/zoo/mlp.h"

#include <algorithm>
#include <memory>
#include <span>
#include <utility>

#include "nn/layers.h"

namespace sinew::train {
namespace {

Status one_of(const char* option, const std::string& value, const std::vector<std::string>& allowed) {
  if (std::find(allowed.begin(), allowed.end(), value) != allowed.end()) return Status::Ok();
  std::string list;
  for (const std::string& name : allowed) list += (list.empty() ? "" : ", ") + name;
  return make_status(StatusCode::invalid_argument, option, " = '", value, "': not one of ", list);
}

}  // namespace

Status validate(const MlpOptions& options) {
  constexpr auto invalid = StatusCode::invalid_argument;
  if (options.input.numel() <= 0)
    return make_status(invalid, "the input shape ", options.input, " of model mlp has no elements");
  for (int64_t width : options.hidden)
    if (width <= 0) return make_status(invalid, "model.hidden = ", width, ": every width must be at least 1");
  if (options.outputs <= 0) return make_status(invalid, "model mlp with ", options.outputs, " outputs: at least 1");
  if (!(options.dropout >= 0 && options.dropout < 1))
    return make_status(invalid, "model.dropout = ", options.dropout, ": must be in [0, 1)");
  SINEW_RETURN_IF_ERROR(one_of("model.activation", options.activation, nn::activation_names()));
  return one_of("model.init", options.init, nn::initializer_names());
}

nn::Model make_mlp(const MlpOptions& options) {
  Status valid = validate(options);
  SINEW_CHECK(valid.ok(), "make_mlp", valid.message());
  nn::LinearOptions layer{.activation = nn::activation_named(options.activation),
                          .init = nn::initializer_named(options.init)};
  auto net = std::make_unique<nn::Sequential>();
  net->add(std::make_unique<nn::Flatten>(), "flatten");
  int64_t width = options.input.numel();
  if (options.input.ndim() == 3) layer.flattened = options.input;
  size_t number = 1;
  for (int64_t next : options.hidden) {
    net->add(std::make_unique<nn::Linear>(width, next, layer), "fc" + std::to_string(number));
    if (options.dropout > 0) net->add(std::make_unique<nn::Dropout>(options.dropout), "drop" + std::to_string(number));
    width = next;
    layer.flattened = {};
    ++number;
  }
  layer.activation = Activation::none;
  net->add(std::make_unique<nn::Linear>(width, options.outputs, layer), "fc" + std::to_string(number));
  return nn::Model("mlp", std::move(net), options.input, options.outputs);
}

}  // namespace sinew::train
