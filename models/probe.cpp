#include "models/probe.h"

#include "core/autograd.h"
#include "core/cpu/cpu_info.h"
#include "core/ops.h"
#include "models/component_options.h"
#include "models/weights_file.h"
#include "models/zoo/zoo.h"

namespace sinew::train {
namespace {

constexpr auto kData = StatusCode::data_error;

struct BatchFile {
  Tensor inputs, labels;                      // inputs N,H,W,C
  std::map<std::string, NamedArray> tensors;  // the whole file
};

Result<BatchFile> read_batch_file(const std::string& path, Device device) {
  Result<SafetensorsFile> file = read_safetensors(path);
  if (!file.ok()) return file.status();
  const auto inputs = file->tensors.find("inputs"), labels = file->tensors.find("labels"), end = file->tensors.end();
  if (inputs == end || labels == end)
    return make_status(kData, path, ": no tensor named ", inputs == end ? "inputs" : "labels",
                       "; a batch is inputs (N,C,H,W or N,features, f32) and labels (N, i64)");
  const NamedArray &x = inputs->second, &y = labels->second;
  if (x.dtype != DType::f32 || (x.shape.ndim() != 4 && x.shape.ndim() != 2) || x.shape.numel() == 0)
    return make_status(kData, path, ": inputs is ", x.shape, " ", to_string(x.dtype),
                       "; it must be (N,C,H,W) or (N,features) f32");
  if (y.dtype != DType::i64 || !(y.shape == Shape{x.shape[0]}))
    return make_status(kData, path, ": labels is ", y.shape, " ", to_string(y.dtype), "; it must be (", x.shape[0],
                       ") i64");
  BatchFile batch;
  batch.inputs = Tensor::from_host(x.bytes.data(), x.shape, x.dtype, device);
  if (x.shape.ndim() == 4) batch.inputs = permute(batch.inputs, {0, 2, 3, 1});
  batch.labels = Tensor::from_host(y.bytes.data(), y.shape, y.dtype, device);
  batch.tensors = std::move(file->tensors);
  return batch;
}

// The network for these weights: its number of outputs is the length of the last parameter in the file, a bias.
Result<nn::Model> model_for(const Options& options, const Shape& input, const SafetensorsFile& weights,
                            const std::string& path) {
  constexpr int64_t kGuess = 10;
  Result<nn::Model> model = make_model(options.model, input, kGuess);
  if (!model.ok()) return model;
  const std::string last = model->layout().segments().back().name;
  const auto found = weights.tensors.find(last);
  if (found == weights.tensors.end())
    return make_status(kData, path, ": no tensor named ", last, "; these are the weights of another model");
  const Shape& shape = found->second.shape;
  if (shape.ndim() != 1 || found->second.bytes.empty())
    return make_status(kData, path, ": ", last, " is ", shape, ", it must be (outputs), one or more");
  const int64_t outputs = shape[0];
  return outputs == kGuess ? std::move(model) : make_model(options.model, input, outputs);
}

// z in the model's layout, one tensor per parameter; empty when the file has none.
Result<std::vector<Tensor>> read_directions(const nn::Model& model, const BatchFile& batch, const std::string& path) {
  const std::vector<Segment>& segments = model.layout().segments();
  Vec z = Vec::zeros(model.layout().size(), DType::f32, batch.inputs.device());
  bool any = false;
  for (const auto& [name, array] : batch.tensors) {
    if (name == "inputs" || name == "labels") continue;
    const int i = name.starts_with("z.") ? model.layout().find(name.substr(2)) : -1;
    if (i < 0) return make_status(kData, path, ": tensor ", name, " is neither inputs, labels nor z.<parameter>");
    const Segment& s = segments[static_cast<size_t>(i)];
    SINEW_RETURN_IF_ERROR(from_array(model, static_cast<size_t>(i), path + ": " + name, array,
                                     z.mutable_view().slice(s.offset, s.numel)));
    any = true;
  }
  if (!any) return std::vector<Tensor>();
  return nn::Parameters(model.layout(), z, false).all();
}

}  // namespace

Status probe(const Options& options, const ProbeFiles& files, bool training) {
  set_num_threads(static_cast<int>(options.train.threads));
  Result<BatchFile> batch = read_batch_file(files.batch, device_of(options));
  if (!batch.ok()) return batch.status();
  Shape input;
  for (int axis = 1; axis < batch->inputs.ndim(); ++axis) input.push_back(batch->inputs.dim(axis));
  Result<SafetensorsFile> weights = read_safetensors(files.weights);
  if (!weights.ok()) return weights.status();
  Result<nn::Model> model = model_for(options, input, *weights, files.weights);
  if (!model.ok()) return model.status();
  Result<Vec> theta = weights_of(*weights, files.weights, *model, DType::f32, device_of(options));
  if (!theta.ok()) return theta.status();
  for (int64_t label : batch->labels.to_vector<int64_t>())
    if (label < 0 || label >= model->outputs())
      return make_status(kData, files.batch, ": label ", label, "; the model has ", model->outputs(), " outputs");
  Result<std::vector<Tensor>> z = read_directions(*model, *batch, files.batch);
  if (!z.ok()) return z.status();

  const nn::Parameters parameters = model->parameters(*theta);
  const nn::Buffers buffers = model->buffers(*theta);
  const Tensor logits = model->forward(batch->inputs, nn::Pass{.parameters = parameters,
                                                               .training = training,
                                                               .seed = static_cast<uint64_t>(options.train.seed),
                                                               .buffers = &buffers});
  const Tensor loss = softmax_cross_entropy(logits, batch->labels);
  const std::vector<Tensor> gradients = grad({loss}, parameters.all(), {}, {.create_graph = !z->empty()});
  std::vector<Tensor> products;
  if (!z->empty()) products = grad(gradients, parameters.all(), *z);

  SafetensorsFile out;
  auto plain = [](const Tensor& t, const Shape& shape) {
    NamedArray array{t.dtype(), shape, std::vector<std::byte>(t.view().bytes())};
    t.read(array.bytes.data());
    return array;
  };
  out.tensors.emplace("loss", plain(loss, {1}));
  out.tensors.emplace("logits", plain(logits, logits.shape()));
  const std::vector<Segment>& segments = model->state_layout().segments();
  const size_t trained = gradients.size();
  for (size_t i = 0; i < segments.size(); ++i) {
    const Segment& s = segments[i];
    if (i >= trained) {
      out.tensors.emplace("buffer." + s.name, to_array(*model, i, theta->view().slice(s.offset, s.numel)));
      continue;
    }
    out.tensors.emplace("grad." + s.name, to_array(*model, i, gradients[i].view()));
    if (!products.empty() && batch->tensors.contains("z." + s.name))
      out.tensors.emplace("hv." + s.name, to_array(*model, i, products[i].view()));
  }
  return write_safetensors(files.out, out);
}

}  // namespace sinew::train
