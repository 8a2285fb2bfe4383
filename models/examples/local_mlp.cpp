// A multi-layer perceptron trained by one worker, without the `sinew` program: data, model, optimizer, trainer.
//
//   local_mlp            # prints the loss as it goes, then the test accuracy
#include <cstdio>

#include "dist/solo_world.h"
#include "models/evaluate.h"
#include "models/trainer.h"
#include "models/zoo/mlp.h"

using namespace sinew;

int main() {
  const Result<nn::DataSplit> data = nn::open_data({.name = "synthetic", .train_size = 10000});
  if (!data.ok()) return std::fprintf(stderr, "%s\n", data.status().message().c_str()), 1;

  const nn::Model model = train::make_mlp({.hidden = {128}});
  nn::Loader loader(data->train, {.batch = 64});
  const auto optimizer = optim::make_optimizer({.name = "nesterov", .lr = 0.02, .momentum = 0.9});

  // One process: a world without peers, and the scheme that does not communicate.
  const auto world = dist::make_solo_world();
  Vec theta = model.initialize(/*seed=*/1);
  const auto scheme = dist::make_scheme({.name = "local"}, *world, theta.size(), theta.dtype());

  train::Trainer trainer(model, loader, *optimizer, *scheme, *world, std::move(theta));
  const Status status =
      trainer.run({.steps = 3 * loader.batches_per_epoch(), .on_step = [](const train::StepReport& r) {
                     if (r.step % 100 == 0) std::printf("step %4ld  loss %.4f\n", r.step, r.loss);
                     return Status::Ok();
                   }});
  if (!status.ok()) return std::fprintf(stderr, "%s\n", status.message().c_str()), 1;

  const train::Evaluation test = train::evaluate(model, trainer.theta(), *data->test);
  std::printf("test accuracy %.4f\n", test.accuracy);
  return 0;
}
