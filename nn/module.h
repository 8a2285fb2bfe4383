// Modules: layers declare what parameters and buffers they have; the model binds them to one padded flat vector.
//
// A Module holds no values. Its forward reads them through a Pass, which carries views of some flat vector: the same
// model runs on a worker's theta, on the center, or on an average, and on several threads at once.
//
// A model's vector theta is its parameters, which the optimizer trains, and after them its buffers (the running
// statistics of batch norm), which forward passes write. Schemes that mix theta mix both.
//
// Invariants: declare() is called once, before the first forward; forward is const and keeps no state. Parameter
// names are PyTorch's ("fc1.weight", "fc1.bias"), joined with dots. Thread safety: const methods from any thread.
//
// Example:
//   auto net = std::make_unique<Sequential>();                       // nn/layers.h
//   net->add(std::make_unique<Linear>(784, 128, LinearOptions{.activation = Activation::relu}), "fc1");
//   net->add(std::make_unique<Linear>(128, 10), "fc2");
//   Model model("mlp", std::move(net), {784}, 10);
//   Vec theta = model.initialize(seed, DType::f32, Device::cpu);
//   Parameters parameters = model.parameters(theta);
//   Tensor logits = model.forward(x, Pass{parameters});
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "core/param_layout.h"
#include "core/philox.h"
#include "core/tensor.h"
#include "nn/file_layout.h"
#include "nn/init.h"

namespace sinew::nn {

// Index of a declared parameter; -1: none (a Linear without bias).
struct ParamId {
  int index = -1;
  bool exists() const { return index >= 0; }
};

// Index of a declared buffer.
struct BufferId {
  int index = -1;
};

// Collects the declarations of a tree of modules.
class Declarations {
 public:
  ParamId parameter(const std::string& name, const Shape& shape, const Initializer& init, const FileLayout& file = {});
  // Not trained; every element starts at `initial`.
  BufferId buffer(const std::string& name, const Shape& shape, double initial);
  // Number of the next random layer (dropout); names its stream of masks.
  uint32_t random_layer() { return random_layers_++; }
  // Prefixes names for the duration of fn with "name.".
  template <class Fn>
  void scope(const std::string& name, Fn fn) {
    std::string outer = prefix_;
    prefix_ += name + ".";
    fn();
    prefix_ = outer;
  }
  const ParamLayout& layout() const { return layout_; }
  const std::vector<Initializer>& initializers() const { return initializers_; }
  const std::vector<FileLayout>& file_layouts() const { return file_layouts_; }
  const ParamLayout& buffer_layout() const { return buffer_layout_; }
  const std::vector<double>& buffer_initials() const { return buffer_initials_; }

 private:
  std::string prefix_;
  ParamLayout layout_, buffer_layout_;
  std::vector<Initializer> initializers_;
  std::vector<FileLayout> file_layouts_;
  std::vector<double> buffer_initials_;
  uint32_t random_layers_ = 0;
};

// One tensor per parameter: views of a flat vector, which share its memory and stay valid as it changes.
class Parameters {
 public:
  // Throws Error unless theta.size() == layout.size().
  Parameters(const ParamLayout& layout, const Vec& theta, bool requires_grad = true);
  // Given tensors instead, results of other operations for example: to differentiate through them. Throws Error
  // unless there is one of the right shape per parameter.
  Parameters(const ParamLayout& layout, std::vector<Tensor> tensors);
  const Tensor& operator[](ParamId id) const { return tensors_[static_cast<size_t>(id.index)]; }
  const std::vector<Tensor>& all() const { return tensors_; }

 private:
  std::vector<Tensor> tensors_;
};

// One tensor per buffer: views of a flat vector. A training pass writes them in place, without telling the version
// counter: no recorded op reads them there.
class Buffers {
 public:
  // Throws Error unless values.size() == layout.size().
  Buffers(const ParamLayout& layout, const Vec& values) : tensors_(Parameters(layout, values, false).all()) {}
  const Tensor& operator[](BufferId id) const { return tensors_[static_cast<size_t>(id.index)]; }

 private:
  std::vector<Tensor> tensors_;
};

// One run through a model.
struct Pass {
  const Parameters& parameters;
  bool training = false;
  // Seed, rank and step of the dropout masks; the layer's number is mixed in. Same values, same masks.
  uint64_t seed = 0;
  uint32_t rank = 0;
  uint64_t step = 0;
  // Read in evaluation. In training they receive the batch's statistics; null: those are dropped, as a second pass over
  // the same batch wants it.
  const Buffers* buffers = nullptr;
  // Weight of this batch's statistics; < 0: each layer's own momentum.
  double buffer_momentum = -1;
  // Activations in bf16, and their cotangents: Model::forward converts its input and its result. Parameters, their
  // gradients, buffers and the outputs stay f32 (core/ops.h). First derivatives only, if there is batch or layer norm.
  bool bf16 = false;
};

class Module {
 public:
  virtual ~Module() = default;
  virtual void declare(Declarations& declarations) = 0;
  virtual Tensor forward(const Tensor& x, const Pass& pass) const = 0;
};
using ModulePtr = std::unique_ptr<Module>;

class Model {
 public:
  // input: shape of one sample; outputs: number of outputs (classes).
  Model(std::string name, ModulePtr root, Shape input, int64_t outputs);
  const std::string& name() const { return name_; }
  const ParamLayout& layout() const { return declarations_.layout(); }  // of what is trained
  const ParamLayout& buffer_layout() const { return declarations_.buffer_layout(); }
  // Both, as they lie in theta: files and fingerprints go by it. Its size() is theta's.
  const ParamLayout& state_layout() const { return state_layout_; }
  // Of segment i of state_layout().
  FileLayout file_layout(size_t i) const;
  Parameters parameters(const Vec& theta, bool requires_grad = true) const;
  Buffers buffers(const Vec& theta) const;
  const Shape& input() const { return input_; }
  int64_t outputs() const { return outputs_; }
  // A fresh theta; every parameter drawn from its own Philox stream (seed, init, index).
  Vec initialize(uint64_t seed, DType dtype = DType::f32, Device device = Device::cpu) const;
  // x: (n, input...). Returns (n, outputs), f32 where the pass is bf16. Throws Error when the shape does not fit,
  // naming both.
  Tensor forward(const Tensor& x, const Pass& pass) const;

 private:
  std::string name_;
  ModulePtr root_;
  Shape input_;
  int64_t outputs_;
  Declarations declarations_;
  ParamLayout state_layout_;
};

}  // namespace sinew::nn
