// An MLP of one's own, trained by four elastic workers in the repeatable simulation, with an installed sinew::train.
#include <cstdio>

#include "dist/sim/simulation.h"
#include "models/evaluate.h"
#include "models/trainer.h"
#include "nn/layers.h"

using namespace sinew;

nn::Model make_network() {
  auto net = std::make_unique<nn::Sequential>();
  net->add(std::make_unique<nn::Flatten>());
  net->add(std::make_unique<nn::Linear>(784, 64));
  net->add(std::make_unique<nn::ReLU>());
  net->add(std::make_unique<nn::Linear>(64, 10));
  return nn::Model("own", std::move(net), Shape({28, 28, 1}), 10);
}

int main() {
  const nn::DataSplit data = nn::open_data({.name = "synthetic", .train_size = 4000}).value();
  const nn::Model model = make_network();
  const dist::SchemeOptions easgd{.name = "easgd", .workers = 4, .period = 4};
  Vec center;

  dist::Simulation simulation({.seed = 1}, dist::node_count(easgd));
  for (dist::Rank rank = 0; rank < easgd.workers; ++rank)
    simulation.set_node(rank, [&, rank](dist::World& world) {
      nn::Loader loader(data.train, {.batch = 32, .worker = rank, .workers = easgd.workers, .prefetch = 0});
      const auto optimizer = optim::make_optimizer({.name = "momentum", .lr = 0.02});
      Vec theta = model.initialize(1);
      const auto scheme = dist::make_scheme(easgd, world, theta.size(), theta.dtype());
      train::Trainer trainer(model, loader, *optimizer, *scheme, world, std::move(theta));
      return trainer.run({.steps = 300});
    });
  simulation.set_node(easgd.workers, [&](dist::World& world) -> Status {
    const Vec start = model.initialize(1);
    const auto server = dist::make_center(easgd, world, start.size(), start.dtype());
    SINEW_RETURN_IF_ERROR(server->start(start.view()));
    SINEW_RETURN_IF_ERROR(dist::serve_all(*server, world));
    center = Vec::zeros(start.size(), start.dtype());
    server->snapshot(center.mutable_view());
    return Status::Ok();
  });
  for (const dist::NodeOutcome& node : simulation.run().nodes)
    if (!node.status.ok()) return std::printf("%s\n", node.status.message().c_str()), 1;

  const double accuracy = train::evaluate(model, center, *data.test).accuracy;
  std::printf("accuracy of the center: %.3f\n", accuracy);
  return accuracy > 0.6 ? 0 : 1;
}
