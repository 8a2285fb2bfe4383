#include <algorithm>
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

std::string shape_and_range(const nn::Dataset& data) {
  return detail::concat("samples ", data.sample_shape(), ", ", data.classes(),
                        data.has_number_targets() ? " numbers to predict" : " classes");
}

// Which samples the workers get: how many, and of which classes.
Status print_data(const Configuration& c, std::ostream& out) {
  Result<nn::DataSplit> data = nn::open_data(data_options(c.options));
  if (!data.ok()) return data.status();
  const nn::Dataset& train = *data->train;
  SINEW_RETURN_IF_ERROR(nn::check_loader_options(loader_options(c.options, 0), train));
  out << train.name() << ": " << train.size() << " training and " << data->test->size() << " test samples, "
      << shape_and_range(train) << "\n";
  for (int worker = 0; worker < c.options.run.workers; ++worker) {
    const nn::Shard shard = nn::shard_of(train, loader_options(c.options, worker));
    if (worker == 0 && !shard.validation.empty())
      out << "  " << padded("validation", 14) << shard.validation.size() << " samples\n";
    out << "  " << padded("worker " + std::to_string(worker), 14) << shard.training.size() << " samples";
    if (!train.has_number_targets()) {
      std::vector<int64_t> counts(static_cast<size_t>(train.classes()));
      for (int64_t index : shard.training) ++counts[static_cast<size_t>(train.label(index))];
      const auto present = std::count_if(counts.begin(), counts.end(), [](int64_t n) { return n > 0; });
      out << ", " << present << " classes:";
      constexpr size_t kShown = 20;
      for (size_t i = 0; i < std::min(counts.size(), kShown); ++i) out << " " << counts[i];
      if (counts.size() > kShown) out << " ...";
    }
    out << "\n";
  }
  return Status::Ok();
}

int verb_info(const Invocation& call) {
  if (!call.line.words.empty()) return verb_info_topology(call);
  Result<Configuration> c = configure(call);
  if (!c.ok()) return report(c.status(), call.err);
  if (c->given("model.name")) {
    Result<nn::Model> model = model_for(*c);
    if (!model.ok()) return report(model.status(), call.err);
    call.out << model->name() << ": " << describe_model(model->name()) << "\n";
    print_parameters(*model, call.out);
    return kExitOk;
  }
  if (c->given("data.name")) return report(print_data(*c, call.out), call.err);
  for (const auto& [name, value] : environment_facts()) call.out << padded(name, 14) << value << "\n";
  return kExitOk;
}

}  // namespace sinew::train
