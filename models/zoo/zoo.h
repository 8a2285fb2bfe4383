// The networks by name. Adding one: models/README.md.
//
// Thread safety: free functions on constant tables.
#pragma once

#include <string>
#include <vector>

#include "core/status.h"
#include "models/options.h"
#include "nn/module.h"

namespace sinew::train {

std::vector<std::string> model_names();
// One line on the network. "" for an unknown name.
std::string describe_model(const std::string& name);
// What the network's authors used: the defaults of model.dropout and model.init.
double default_dropout(const std::string& name);
std::string default_init(const std::string& name);
// input: shape of one sample; outputs: number of classes. invalid_argument names the option and what is allowed.
Result<nn::Model> make_model(const Options::Model& options, const Shape& input, int64_t outputs);

}  // namespace sinew::train
