#include "models/weights_file.h"

namespace sinew::train {

NamedArray to_array(const nn::Model& model, size_t i, ConstVecView values) {
  const Segment& s = model.state_layout().segments()[i];
  const nn::FileLayout layout = model.file_layout(i);
  std::vector<std::byte> inside(values.bytes());
  download(values, inside.data());
  NamedArray array{values.dtype, nn::file_shape(layout, s.shape), std::vector<std::byte>(values.bytes())};
  nn::to_file(layout, values.dtype, s.numel, inside.data(), array.bytes.data());
  return array;
}

namespace {

Status check_array(const nn::Model& model, size_t i, const std::string& name, const NamedArray& array, DType dtype) {
  const Shape shape = nn::file_shape(model.file_layout(i), model.state_layout().segments()[i].shape);
  if (array.shape == shape && array.dtype == dtype) return Status::Ok();
  return make_status(StatusCode::data_error, name, " is ", array.shape, " ", to_string(array.dtype), ", the model has ",
                     shape, " ", to_string(dtype));
}

}  // namespace

Status from_array(const nn::Model& model, size_t i, const std::string& name, const NamedArray& array, VecView values) {
  SINEW_RETURN_IF_ERROR(check_array(model, i, name, array, values.dtype));
  std::vector<std::byte> inside(array.bytes.size());
  nn::from_file(model.file_layout(i), array.dtype, values.size, array.bytes.data(), inside.data());
  upload(inside.data(), values);
  return Status::Ok();
}

Status save_weights(const std::string& path, const nn::Model& model, ConstVecView theta,
                    const std::vector<std::pair<std::string, std::string>>& metadata) {
  SafetensorsFile file;
  file.metadata["format"] = "pt";
  for (const auto& [key, value] : metadata) file.metadata[key] = value;
  const std::vector<Segment>& segments = model.state_layout().segments();
  for (size_t i = 0; i < segments.size(); ++i)
    file.tensors.emplace(segments[i].name, to_array(model, i, theta.slice(segments[i].offset, segments[i].numel)));
  return write_safetensors(path, file);
}

Result<Vec> load_weights(const std::string& path, const nn::Model& model, DType dtype, Device device) {
  Result<SafetensorsFile> file = read_safetensors(path);
  if (!file.ok()) return file.status();
  return weights_of(*file, path, model, dtype, device);
}

Result<Vec> weights_of(const SafetensorsFile& file, const std::string& path, const nn::Model& model, DType dtype,
                       Device device) {
  const std::vector<Segment>& segments = model.state_layout().segments();
  for (size_t i = 0; i < segments.size(); ++i) {
    const auto found = file.tensors.find(segments[i].name);
    if (found == file.tensors.end())
      return make_status(StatusCode::data_error, path, ": no tensor named ", segments[i].name,
                         "; these are the weights of another model");
    SINEW_RETURN_IF_ERROR(check_array(model, i, path + ": " + segments[i].name, found->second, dtype));
  }
  for (const auto& [name, array] : file.tensors)
    if (model.state_layout().find(name) < 0 && !name.ends_with("num_batches_tracked"))
      return make_status(StatusCode::data_error, path, ": tensor ", name, " is not a parameter of the model");
  Vec theta = Vec::zeros(model.state_layout().size(), dtype, device);
  for (size_t i = 0; i < segments.size(); ++i)
    SINEW_RETURN_IF_ERROR(from_array(model, i, path + ": " + segments[i].name, file.tensors.at(segments[i].name),
                                     theta.mutable_view().slice(segments[i].offset, segments[i].numel)));
  return theta;
}

}  // namespace sinew::train
