// `sinew eval`: the weights of a file on the test set.
#include "core/cpu/cpu_info.h"
#include "models/component_options.h"
#include "models/evaluate.h"
#include "models/run.h"
#include "models/weights_file.h"
#include "models/zoo/zoo.h"

namespace sinew::train {

Result<EvalReport> evaluate_file(const Options& options, const std::string& weights) {
  set_num_threads(static_cast<int>(options.train.threads));
  Result<nn::DataSplit> data = nn::open_data(data_options(options));
  if (!data.ok()) return data.status();
  const nn::Dataset& test = *data->test;
  Result<nn::Model> model = make_model(options.model, test.sample_shape(), test.classes());
  if (!model.ok()) return model.status();
  Result<Vec> theta = load_weights(weights, *model, DType::f32, device_of(options));
  if (!theta.ok()) return theta.status();
  const Evaluation e = evaluate(*model, *theta, test);
  EvalReport report{.weights = weights,
                    .data = options.data.name,
                    .loss = e.loss,
                    .accuracy = e.accuracy,
                    .samples = e.samples,
                    .classes = {}};
  const std::vector<std::string> names = test.class_names();
  for (size_t c = 0; c < e.class_samples.size(); ++c)
    report.classes.push_back({c < names.size() ? names[c] : std::to_string(c), e.class_samples[c], e.class_correct[c]});
  return report;
}

}  // namespace sinew::train
