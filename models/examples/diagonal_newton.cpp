// A research optimizer in one file: a damped Newton step on the diagonal, u = g / (|h| + damping), with h an average of
// Hutchinson estimates that are taken every tenth step. docs/extending.md walks through it.
#include <cstdio>

#include "dist/solo_world.h"
#include "models/evaluate.h"
#include "models/trainer.h"
#include "models/zoo/mlp.h"
#include "optim/schedule.h"
#include "optim/state.h"
#include "optim/transforms.h"
#include "optim/vector_math.h"

using namespace sinew;

class DiagonalNewton : public optim::StatefulTransform {
 public:
  explicit DiagonalNewton(double damping)
      : StatefulTransform("diagonal_newton", {"curvature"}, {"steps"}), damping_(damping) {}
  // Of the next step. The trainer runs the second backward pass for nobody else.
  optim::Needs needs() const override {
    return {counter(0) % 10 == 0 ? optim::Curvature::hutchinson : optim::Curvature::none};
  }
  void apply(VecView u, VecView, const optim::StepInfo& info) override {
    VecView h = vector(0), size = scratch();
    if (info.diagonal.data) optim::average_into(h, 0.9, info.diagonal);
    ++counter(0);
    optim::map(UnaryOp::abs, h, size);
    optim::map(UnaryOp::affine, size, size, 1, damping_);
    optim::combine(BinaryOp::div, u, size, u);
  }

 private:
  const double damping_;
};

int main() {
  const Result<nn::DataSplit> data = nn::open_data({.name = "synthetic", .train_size = 10000});
  if (!data.ok()) return std::fprintf(stderr, "%s\n", data.status().message().c_str()), 1;
  const nn::Model model = train::make_mlp({.hidden = {128}});
  nn::Loader loader(data->train, {.batch = 64});

  std::vector<optim::TransformPtr> chain;
  chain.push_back(std::make_unique<DiagonalNewton>(/*damping=*/0.1));
  chain.push_back(optim::heavy_ball(0.9));
  optim::Optimizer optimizer(std::move(chain), optim::constant_schedule(), /*lr=*/2e-3);

  const auto world = dist::make_solo_world();
  Vec theta = model.initialize(/*seed=*/1);
  const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), theta.dtype());
  train::Trainer trainer(model, loader, optimizer, *scheme, *world, std::move(theta));
  const Status status = trainer.run({.steps = 3 * loader.batches_per_epoch()});
  if (!status.ok()) return std::fprintf(stderr, "%s\n", status.message().c_str()), 1;
  std::printf("test accuracy %.4f\n", train::evaluate(model, trainer.theta(), *data->test).accuracy);
}
