#include "models/evaluate.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/autograd.h"
#include "core/ops.h"
#include "core/safetensors.h"

namespace sinew::train {

Evaluation evaluate(const nn::Model& model, const Vec& theta, const nn::Dataset& data) {
  std::vector<int64_t> all(static_cast<size_t>(data.size()));
  std::iota(all.begin(), all.end(), 0);
  return evaluate(model, theta, data, all);
}

Evaluation evaluate(const nn::Model& model, const Vec& theta, const nn::Dataset& data,
                    std::span<const int64_t> samples) {
  constexpr size_t kBatch = 500;
  GradMode off(false);
  const nn::Parameters parameters = model.parameters(theta, false);
  const nn::Buffers buffers = model.buffers(theta);
  Evaluation result;
  result.samples = static_cast<int64_t>(samples.size());
  const size_t classes = static_cast<size_t>(std::max(data.classes(), model.outputs()));
  result.class_samples.assign(classes, 0);
  result.class_correct.assign(classes, 0);
  int64_t correct = 0;
  for (size_t begin = 0; begin < samples.size(); begin += kBatch) {
    const nn::Batch batch =
        nn::read_batch(data, samples.subspan(begin, std::min(kBatch, samples.size() - begin)), theta.device());
    const Tensor logits = model.forward(batch.inputs, nn::Pass{.parameters = parameters, .buffers = &buffers});
    result.loss +=
        to_doubles(softmax_cross_entropy(logits, batch.labels).view())[0] * static_cast<double>(batch.size());
    const std::vector<int64_t> guess = argmax(logits, 1).to_vector<int64_t>(),
                               truth = batch.labels.to_vector<int64_t>();
    for (size_t i = 0; i < truth.size(); ++i) {
      const bool hit = guess[i] == truth[i];
      ++result.class_samples[static_cast<size_t>(truth[i])];
      result.class_correct[static_cast<size_t>(truth[i])] += hit;
      correct += hit;
    }
  }
  if (result.samples > 0) {
    result.loss /= static_cast<double>(result.samples);
    result.accuracy = static_cast<double>(correct) / static_cast<double>(result.samples);
  }
  return result;
}

Status save_weights(const std::string& path, const ParamLayout& layout, ConstVecView theta,
                    const std::vector<std::pair<std::string, std::string>>& metadata) {
  SafetensorsFile file;
  for (const auto& [key, value] : metadata) file.metadata[key] = value;
  for (const Segment& s : layout.segments()) {
    NamedArray array{theta.dtype, s.shape, std::vector<std::byte>(static_cast<size_t>(s.numel) * size_of(theta.dtype))};
    download(theta.slice(s.offset, s.numel), array.bytes.data());
    file.tensors.emplace(s.name, std::move(array));
  }
  return write_safetensors(path, file);
}

Result<Vec> load_weights(const std::string& path, const ParamLayout& layout, DType dtype, Device device) {
  Result<SafetensorsFile> file = read_safetensors(path);
  if (!file.ok()) return file.status();
  Vec theta = Vec::zeros(layout.size(), dtype, device);
  for (const Segment& s : layout.segments()) {
    const auto found = file->tensors.find(s.name);
    if (found == file->tensors.end())
      return make_status(StatusCode::data_error, path, ": no tensor named ", s.name,
                         "; these are the weights of another model");
    const NamedArray& array = found->second;
    if (!(array.shape == s.shape) || array.dtype != dtype)
      return make_status(StatusCode::data_error, path, ": ", s.name, " is ", array.shape, " ", to_string(array.dtype),
                         ", the model has ", s.shape, " ", to_string(dtype));
    upload(array.bytes.data(), theta.mutable_view().slice(s.offset, s.numel));
  }
  for (const auto& [name, array] : file->tensors)
    if (layout.find(name) < 0)
      return make_status(StatusCode::data_error, path, ": tensor ", name, " is not a parameter of the model");
  return theta;
}

}  // namespace sinew::train
