#include <array>
#include <ostream>

#include "models/cli/program.h"
#include "models/component_options.h"
#include "models/exit_codes.h"
#include "models/zoo/zoo.h"

namespace sinew::train {
namespace {

std::string padded(std::string text, size_t width) {
  text.resize(std::max(text.size(), width), ' ');
  return text;
}

// The network for the data set's samples; without a data set, for 28x28 images of ten classes.
Result<nn::Model> model_for(const Configuration& c) {
  Shape input = {28, 28, 1};
  int64_t classes = 10;
  if (c.given("data.name")) {
    Result<nn::DataSplit> data = nn::open_data(data_options(c.options));
    if (!data.ok()) return data.status();
    input = data->test->sample_shape();
    classes = data->test->classes();
  }
  return make_model(c.options.model, input, classes);
}

void print_parameters(const nn::Model& model, std::ostream& out) {
  const ParamLayout& layout = model.layout();
  for (const Segment& segment : layout.segments())
    out << "  " << padded(segment.name, 24) << padded(detail::concat(segment.shape), 20) << segment.numel << "\n";
  out << "  " << padded("parameters", 44) << layout.parameter_count() << "\n  " << padded("in the flat vector", 44)
      << layout.size() << " elements, " << layout.size() * 4 << " bytes as f32\n";
}

}  // namespace

int verb_info(const Invocation& call) {
  Result<Configuration> c = configure(call);
  if (!c.ok()) return report(c.status(), call.err);
  if (c->given("model.name")) {
    Result<nn::Model> model = model_for(*c);
    if (!model.ok()) return report(model.status(), call.err);
    call.out << model->name() << ": " << describe_model(model->name()) << "\n";
    print_parameters(*model, call.out);
    return kExitOk;
  }
  for (const auto& [name, value] : environment_facts()) call.out << padded(name, 14) << value << "\n";
  return kExitOk;
}

}  // namespace sinew::train
