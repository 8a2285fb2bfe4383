// Elastic averaging SGD (arXiv:1412.6651, Algorithm 1) with four worker processes and a center, started by themselves.
//
//   easgd_mlp            # starts five processes of itself on this machine; the center prints the test accuracy
#include <cstdio>

#include "dist/join.h"
#include "models/evaluate.h"
#include "models/trainer.h"
#include "models/zoo/mlp.h"

using namespace sinew;

const dist::SchemeOptions kEasgd{.name = "easgd", .workers = 4, .period = 10};

Status run_node(const dist::JobEnvironment& job, const nn::DataSplit& data) {
  Result<dist::Joined> joined = dist::join_job(job);
  if (!joined.ok()) return joined.status();
  dist::World& world = *joined->world;
  const nn::Model model = train::make_mlp({.hidden = {128}});
  Vec theta = model.initialize(/*seed=*/1);  // the same on every node
  if (world.rank() == kEasgd.workers) {
    const auto center = dist::make_center(kEasgd, world, theta.size(), theta.dtype());
    SINEW_RETURN_IF_ERROR(center->start(theta.view()));
    SINEW_RETURN_IF_ERROR(dist::serve_all(*center, world));
    center->snapshot(theta.mutable_view());
    std::printf("test accuracy of the center %.4f\n", train::evaluate(model, theta, *data.test).accuracy);
    return Status::Ok();
  }
  nn::Loader loader(data.train, {.batch = 64, .worker = world.rank(), .workers = kEasgd.workers});
  const auto optimizer = optim::make_optimizer({.name = "momentum", .lr = 0.02, .momentum = 0.9});
  const auto scheme = dist::make_scheme(kEasgd, world, theta.size(), theta.dtype());
  train::Trainer trainer(model, loader, *optimizer, *scheme, world, std::move(theta));
  SINEW_RETURN_IF_ERROR(trainer.run({.steps = 400, .first_step = job.start_step}));
  world.leave();
  return Status::Ok();
}

int main(int, char** argv) {
  const auto job = dist::read_job_environment();
  Status status = job.status();
  if (job.ok() && !job->has_value()) {  // nobody started us as part of a job: start one
    const auto report =
        dist::supervise({.argv = {argv[0]}, .processes = dist::node_count(kEasgd), .essential = {kEasgd.workers}});
    if (report.ok()) return report->exit_code;
    status = report.status();
  } else if (job.ok()) {
    const Result<nn::DataSplit> data = nn::open_data({.name = "synthetic", .train_size = 10000});
    status = data.ok() ? run_node(**job, *data) : data.status();
  }
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.message().c_str());
  return status.ok() ? 0 : 1;
}
