// A model's vector to and from safetensors files, with PyTorch's names and layouts (nn/file_layout.h): a file of ours
// loads with load_state_dict(), and one that was written by safetensors.torch.save_file(model.state_dict()) loads here.
//
// Thread safety: free functions on const inputs.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/safetensors.h"
#include "core/status.h"
#include "nn/module.h"

namespace sinew::train {

// One tensor per parameter and buffer of theta, by its name.
Status save_weights(const std::string& path, const nn::Model& model, ConstVecView theta,
                    const std::vector<std::pair<std::string, std::string>>& metadata = {});
// data_error names the tensor that is missing, surplus or of another shape or type, before anything
// of the model's size is allocated. PyTorch's counters "num_batches_tracked" are skipped.
Result<Vec> load_weights(const std::string& path, const nn::Model& model, DType dtype = DType::f32,
                         Device device = Device::cpu);
// The same of a file that was read before; `path` is for messages.
Result<Vec> weights_of(const SafetensorsFile& file, const std::string& path, const nn::Model& model,
                       DType dtype = DType::f32, Device device = Device::cpu);

// One segment of a vector of the model's state layout (or of its first part), as a file holds it, and back.
// `from_array` takes `values` of segment i's size; data_error names the array when shape or type do not fit.
NamedArray to_array(const nn::Model& model, size_t i, ConstVecView values);
Status from_array(const nn::Model& model, size_t i, const std::string& name, const NamedArray& array, VecView values);

}  // namespace sinew::train
