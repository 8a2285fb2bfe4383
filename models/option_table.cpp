#include "dist/packing.h"
#include "dist/scheme.h"
#include "dist/topology.h"
#include "models/options.h"
#include "models/zoo/zoo.h"
#include "nn/data/dataset.h"
#include "nn/data/loader.h"
#include "nn/init.h"
#include "nn/layers/activations.h"
#include "optim/optimizer.h"

namespace sinew::train {
namespace {

using Kind = OptionKind;
using Names = std::vector<std::string>;

constexpr double kBig = 1e15, kHour = 3600;

// Key and member from one spelling, so that they cannot disagree.
#define SINEW_OPTION(path) \
  .key = #path, .field = +[](Options & o) -> auto& { return o.path; }

std::vector<OptionSpec> make_table() {
  return {
      {SINEW_OPTION(data.name), .kind = Kind::name, .help = "data set", .alias = "data", .names = nn::dataset_names},
      {SINEW_OPTION(data.dir), .kind = Kind::text, .help = "folder that holds the data set's files", .path = true},
      {SINEW_OPTION(data.file), .kind = Kind::text, .help = "tensors, csv: file of the training samples", .path = true},
      {SINEW_OPTION(data.test_file), .kind = Kind::text, .help = "tensors, csv: file of the test samples",
       .path = true},
      {SINEW_OPTION(data.test_share), .kind = Kind::real,
       .help = "tensors, csv, images: part that is kept for tests where there is none; always the same samples",
       .max = 0.99},
      {SINEW_OPTION(data.layout), .kind = Kind::name,
       .help = "tensors: order of the dimensions of images, channels last or first",
       .names =
           [] {
             return Names{"nhwc", "nchw"};
           }},
      {SINEW_OPTION(data.label), .kind = Kind::text,
       .help = "csv: the label's column, by its name or number from 1; without: the last"},
      {SINEW_OPTION(data.sharding), .kind = Kind::name,
       .help =
           "which samples a worker sees: all, its own part, a shared part and its own, few classes, or unequal parts",
       .names = nn::sharding_names, .derived = "partition for allreduce, else full"},
      {SINEW_OPTION(data.overlap), .kind = Kind::real, .help = "shared part of each shard, with overlap", .max = 1},
      {SINEW_OPTION(data.concentration), .kind = Kind::real,
       .help = "dirichlet: near 0 each class goes to one worker, large values deal evenly", .min = 1e-6, .max = 1e6},
      {SINEW_OPTION(data.stratify), .kind = Kind::toggle,
       .help = "full, partition, overlap: the same share of every class for every worker and for validation"},
      {SINEW_OPTION(data.validation), .kind = Kind::real, .help = "part of the training set kept out", .max = 0.9},
      {SINEW_OPTION(data.train_size), .kind = Kind::integer,
       .help = "synthetic: training samples to draw; 0: its default", .unit = "samples", .max = 1e8},
      {SINEW_OPTION(data.augment), .kind = Kind::name,
       .help = "random changes of training images; a test sees the middle of the image", .names = nn::augment_names},
      {SINEW_OPTION(data.crop), .kind = Kind::integer,
       .help = "side of a sample cut out of an image; 0: the whole image, of images 224", .unit = "pixels",
       .max = 8192},
      {SINEW_OPTION(data.padding), .kind = Kind::integer,
       .help = "crop, crop_flip: black pixels around an image before the random crop", .unit = "pixels", .max = 1024,
       .derived = "4 for whole images, else 0"},
      {SINEW_OPTION(data.resize), .kind = Kind::integer,
       .help = "images: the shorter side before a crop; 0: 8/7 of data.crop, 256 for 224", .unit = "pixels",
       .max = 8192},
      {SINEW_OPTION(data.mean), .kind = Kind::reals,
       .help = "subtracted from values of 0 to 1, one or one a channel; none: the set's own", .min = -1e6, .max = 1e6},
      {SINEW_OPTION(data.std), .kind = Kind::reals, .help = "what they are then divided by, likewise", .min = 1e-6,
       .max = 1e6},
      {SINEW_OPTION(data.order), .kind = Kind::name,
       .help = "shuffled anew in every epoch, or as the EASGD paper's loader hands out chunks",
       .names = nn::order_names},
      {SINEW_OPTION(data.chunk), .kind = Kind::integer, .help = "chunks: samples in one", .unit = "samples", .min = 1,
       .max = 1 << 20},
      {SINEW_OPTION(data.chunk_loaders), .kind = Kind::integer, .help = "chunks: streams, one chunk of each at a time",
       .min = 1, .max = 1024},
      {SINEW_OPTION(data.chunk_parts), .kind = Kind::toggle,
       .help = "chunks: each stream has its own part of the set, not all of it"},
      {SINEW_OPTION(data.threads), .kind = Kind::integer,
       .help = "threads of a worker that read batches ahead; 0: none, the training thread reads", .max = 64},

      {SINEW_OPTION(model.name), .kind = Kind::name, .help = "network", .alias = "model", .names = model_names},
      {SINEW_OPTION(model.hidden), .kind = Kind::sizes,
       .help = "mlp: widths of the hidden layers; none: a linear classifier", .min = 1, .max = 1 << 20},
      {SINEW_OPTION(model.activation), .kind = Kind::name, .help = "mlp: activation function",
       .names = nn::activation_names},
      {SINEW_OPTION(model.init), .kind = Kind::name, .help = "initialisation of the weights",
       .names = nn::initializer_names, .derived = "the network's own"},
      {SINEW_OPTION(model.dropout), .kind = Kind::real, .help = "probability of dropping a hidden unit", .max = 0.95,
       .derived = "the network's own; none for mlp"},
      {SINEW_OPTION(model.weights), .kind = Kind::text,
       .help = "safetensors file of parameters and buffers to start from, in place of drawn ones", .path = true},

      {SINEW_OPTION(optim.name), .kind = Kind::name, .help = "optimizer", .alias = "optim",
       .names = optim::optimizer_names, .derived = "nag for eamsgd, else momentum"},
      {SINEW_OPTION(optim.lr), .kind = Kind::real, .help = "learning rate", .alias = "lr", .max = 1e30,
       .derived = "0.05; adam, adamw, sophia 0.001; adahessian 0.15; lars 1; lion 1e-4"},
      {SINEW_OPTION(optim.momentum), .kind = Kind::real, .help = "momentum, nesterov, nag, qgm, lars: momentum",
       .max = 0.9999},
      {SINEW_OPTION(optim.weight_decay), .kind = Kind::real, .help = "L2 penalty, added to the gradient", .max = 10},
      {SINEW_OPTION(optim.decoupled_decay), .kind = Kind::real, .help = "weights shrink by lr times this in each step",
       .max = 10, .derived = "0; adamw 0.01, sophia_g 0.1"},
      {SINEW_OPTION(optim.clip_norm), .kind = Kind::real, .help = "longest gradient; 0: any", .max = kBig},
      {SINEW_OPTION(optim.beta1), .kind = Kind::real, .help = "adaptive optimizers: average of the gradient",
       .max = 0.9999999, .derived = "0.9; sophia 0.965"},
      {SINEW_OPTION(optim.beta2), .kind = Kind::real,
       .help = "adaptive optimizers: average of the squares or the curvature; lion: of what is remembered",
       .max = 0.9999999, .derived = "0.999; sophia, lion 0.99"},
      {SINEW_OPTION(optim.eps), .kind = Kind::real, .help = "adaptive optimizers: least denominator", .min = 1e-30,
       .max = 1e6, .derived = "1e-8; adahessian 1e-4, sophia_g 1e-15"},
      {SINEW_OPTION(optim.rho), .kind = Kind::real, .help = "sophia: factor of the curvature", .min = 1e-12, .max = 1e6,
       .derived = "sophia_h 0.01, sophia_g 0.04"},
      {SINEW_OPTION(optim.trust), .kind = Kind::real, .help = "lars: trust coefficient", .min = 1e-12, .max = 1e6},
      {SINEW_OPTION(optim.hessian_power), .kind = Kind::real, .help = "adahessian: Hessian power k", .max = 1},
      {SINEW_OPTION(optim.hessian_every), .kind = Kind::integer,
       .help = "adahessian, sophia: distance of the estimates of the curvature", .unit = "steps", .min = 1, .max = 1e9,
       .derived = "1; sophia 10"},
      {SINEW_OPTION(optim.hessian_dense_steps), .kind = Kind::integer,
       .help = "adahessian: so many first steps all have an estimate", .unit = "steps", .max = 1e12},
      {SINEW_OPTION(optim.hessian_samples), .kind = Kind::integer,
       .help = "adahessian, sophia_h: random vectors of one estimate", .min = 1, .max = 1000},
      {SINEW_OPTION(optim.hessian_average), .kind = Kind::name,
       .help = "adahessian: over the spatial axes of a filter, the mean of sizes or of signed values",
       .names =
           [] {
             return Names{"abs_mean", "signed_mean"};
           }},
      {SINEW_OPTION(optim.hessian_block), .kind = Kind::integer,
       .help = "adahessian: the same over blocks in the rows of a matrix; 1: none", .unit = "elements", .min = 1,
       .max = 1e9},
      {SINEW_OPTION(optim.hessian_stale), .kind = Kind::name,
       .help = "adahessian: between estimates, keep the average or add the last estimate again",
       .names =
           [] {
             return Names{"keep", "repeat"};
           }},
      {SINEW_OPTION(optim.bias_correction), .kind = Kind::toggle,
       .help = "adahessian: averages are divided by what their first steps leave of them"},
      {SINEW_OPTION(optim.schedule), .kind = Kind::name, .help = "learning rate over time",
       .names = optim::schedule_names},
      {SINEW_OPTION(optim.gamma), .kind = Kind::real,
       .help = "inverse_sqrt: 1 / sqrt(1 + gamma t); step: factor of each drop", .max = 1000},
      {SINEW_OPTION(optim.step_every), .kind = Kind::integer, .help = "step schedule: distance of the drops",
       .unit = "steps", .min = 1, .max = 1e12},
      {SINEW_OPTION(optim.warmup_steps), .kind = Kind::integer, .help = "learning rate rises from 0 over so many steps",
       .unit = "steps", .max = 1e12},

      {SINEW_OPTION(scheme.name), .kind = Kind::name, .help = "how the workers keep their parameters together",
       .alias = "scheme", .names = dist::scheme_names, .derived = "local for one worker, else easgd"},
      {SINEW_OPTION(scheme.period), .kind = Kind::integer, .help = "communication period tau", .unit = "steps",
       .min = 1, .max = 1e9, .derived = "10; dpsgd, sgp, adpsgd, mdownpour, lgd, and with scheme.probability: 1"},
      {SINEW_OPTION(scheme.alpha), .kind = Kind::real, .help = "moving rate of an elastic exchange", .max = 1,
       .derived = "0.9 / workers; easgd_tree 0.9 / (fan_out + 1); elastic_gossip, adpsgd 0.5"},
      {SINEW_OPTION(scheme.beta), .kind = Kind::real,
       .help = "easgd_sync, gauss_seidel: moving rate of the center; gossiping_sgd: of the worker that moves", .max = 1,
       .derived = "workers * alpha, at most 1; gossiping_sgd 0.5"},
      {SINEW_OPTION(scheme.order), .kind = Kind::name,
       .help = "easgd_sync: workers and center move at once, or one after the other",
       .names =
           [] {
             return Names{"jacobi", "gauss_seidel"};
           }},
      {SINEW_OPTION(scheme.probability), .kind = Kind::real,
       .help = "gossip with random partners: of an exchange, in each round", .max = 1},
      {SINEW_OPTION(scheme.collision), .kind = Kind::name,
       .help = "elastic_gossip: a worker that several others picked takes all, one, or all with a smaller alpha",
       .names =
           [] {
             return Names{"sum", "matching", "capped"};
           }},
      {SINEW_OPTION(scheme.topology), .kind = Kind::name,
       .help = "gossip: who exchanges with whom; `sinew info topology NAME` shows it", .names = dist::topology_names,
       .derived = "uniform; dpsgd ring, sgp one_peer_exponential"},
      {SINEW_OPTION(scheme.edges), .kind = Kind::text, .help = "of topology edges: pairs of ranks, such as 0-1,1-2"},
      {SINEW_OPTION(scheme.mode), .kind = Kind::name,
       .help = "elastic_gossip, gossiping_sgd, lsgd: in lockstep, or without a common clock",
       .names =
           [] {
             return Names{"sync", "async"};
           }},
      {SINEW_OPTION(scheme.mixing), .kind = Kind::name,
       .help = "dpsgd: mixes the parameters from before the gradient, or those after the step",
       .names =
           [] {
             return Names{"awc", "atc"};
           }},
      {SINEW_OPTION(scheme.direction), .kind = Kind::name, .help = "gossiping_sgd: who picks moves, or who is picked",
       .names =
           [] {
             return Names{"pull", "push"};
           }},
      {SINEW_OPTION(scheme.overlap), .kind = Kind::integer,
       .help = "sgp, and dpsgd on exponential graphs: rounds between sending and taking in; easgd, eamsgd: steps that "
               "the center is asked for ahead of an exchange; so that nothing waits for a link",
       .unit = "rounds or steps", .max = 1000},
      {SINEW_OPTION(scheme.global_average_every), .kind = Kind::integer,
       .help = "gossip, local: every so many steps all workers take the mean of all; 0: never", .unit = "steps",
       .max = 1e9},
      {SINEW_OPTION(scheme.pull), .kind = Kind::real,
       .help = "lsgd, lgd: pull toward the leader of the group, or with one group of all", .max = 1},
      {SINEW_OPTION(scheme.pull_global), .kind = Kind::real,
       .help = "lsgd, lgd with several groups: pull toward the leader of all", .max = 1},
      {SINEW_OPTION(scheme.period_global), .kind = Kind::integer,
       .help = "lsgd, lgd: steps between pulls toward the leader of all, a multiple of scheme.period", .unit = "steps",
       .min = 1, .max = 1e12, .derived = "2 * period"},
      {SINEW_OPTION(scheme.groups), .kind = Kind::text,
       .help = "lsgd, lgd: workers with a leader of their own: how many groups, or ranks as in 0-3/4,6/5,7, or hosts; "
               "all in one if empty"},
      {SINEW_OPTION(scheme.leader), .kind = Kind::name,
       .help = "lsgd, lgd: who leads: the lowest running loss of training, or the lowest loss on one batch that is the "
               "same for all",
       .names =
           [] {
             return Names{"running_train", "probe_batch"};
           }},
      {SINEW_OPTION(scheme.loss_window), .kind = Kind::integer,
       .help = "lsgd, running_train: losses in the running mean", .min = 1, .max = 1e6},
      {SINEW_OPTION(scheme.probe), .kind = Kind::integer,
       .help = "lsgd, lgd, probe_batch: training samples in that batch; 0: all", .unit = "samples", .max = 1e9},
      {SINEW_OPTION(scheme.proximal), .kind = Kind::real,
       .help = "lsgd: pull in parts, after every step, toward where the group's last leader was", .max = 1},
      {SINEW_OPTION(scheme.proximal_global), .kind = Kind::real,
       .help = "lsgd with several groups: the same toward the last leader of all", .max = 1},
      {SINEW_OPTION(scheme.update_order), .kind = Kind::name,
       .help = "easgd and its kin: the gradient is taken before the elastic move, or after",
       .names =
           [] {
             return Names{"pre", "post"};
           },
       .derived = "pre for fixed weights, else post"},
      {SINEW_OPTION(scheme.weighting), .kind = Kind::name,
       .help = "weights of an elastic exchange: alpha, by each worker's distance from the center over time, or 1 and 0 "
               "after a contact that failed",
       .names = dist::weighting_names},
      {SINEW_OPTION(scheme.kappa), .kind = Kind::real, .help = "dynamic: score from which on a worker counts as failed",
       .max = kBig, .derived = "3 * alpha"},
      {SINEW_OPTION(scheme.s0), .kind = Kind::real, .help = "dynamic: scores up to this are healthy", .min = -kBig,
       .max = kBig},
      {SINEW_OPTION(scheme.score_sign), .kind = Kind::integer,
       .help = "dynamic: 1: a growing distance is suspicious; -1: a shrinking one", .min = -1, .max = 1},
      {SINEW_OPTION(scheme.score_coefficients), .kind = Kind::reals,
       .help = "dynamic: shares of the last changes of log distance in the score, newest first", .max = kBig},
      {SINEW_OPTION(scheme.warmup_rounds), .kind = Kind::integer,
       .help = "dynamic: first exchanges, with weights alpha", .max = 1e12},
      {SINEW_OPTION(scheme.peer_normalisation), .kind = Kind::toggle,
       .help = "dynamic, of easgd and eamsgd: scores count from the median of the other workers'"},
      {SINEW_OPTION(scheme.tree), .kind = Kind::name,
       .help = "easgd_tree: leaves and their parents exchange more often than the rest, or all push up more often than "
               "down",
       .names =
           [] {
             return Names{"multi_scale", "up_down"};
           }},
      {SINEW_OPTION(scheme.fan_out), .kind = Kind::integer, .help = "easgd_tree: children of a node", .min = 2,
       .max = 1024},
      {SINEW_OPTION(scheme.far_period), .kind = Kind::integer,
       .help = "easgd_tree: period of the rarer pushes, those between inner nodes or those down", .unit = "steps",
       .min = 1, .max = 1e12, .derived = "10 * period"},
      {SINEW_OPTION(scheme.outer), .kind = Kind::name,
       .help = "local_sgd: how the center follows the workers' mean move",
       .names =
           [] {
             return Names{"none", "momentum", "nesterov"};
           }},
      {SINEW_OPTION(scheme.outer_lr), .kind = Kind::real, .help = "local_sgd: the center's learning rate", .max = 1e6},
      {SINEW_OPTION(scheme.outer_momentum), .kind = Kind::real, .help = "local_sgd, mdownpour: momentum of the center",
       .max = 0.9999, .derived = "0.99 for mdownpour, else 0.9"},
      {SINEW_OPTION(scheme.average_rate), .kind = Kind::real, .help = "mvadownpour, mvasgd: rate of the moving average",
       .max = 1},
      {SINEW_OPTION(scheme.shard), .kind = Kind::integer, .help = "elements of the center exchanged as one",
       .unit = "elements", .min = 16, .max = 1e9},
      {SINEW_OPTION(scheme.servers), .kind = Kind::text,
       .help = "nodes that serve the center's shards: how many, or workers: they do it themselves"},
      {SINEW_OPTION(scheme.wire), .kind = Kind::name,
       .help = "how exchanged parameters and differences travel: as they are, or rounded to fewer bits with feedback",
       .names = [] { return dist::packing_names(); }},
      {SINEW_OPTION(scheme.deadline), .kind = Kind::duration, .help = "longest wait for others that do not answer",
       .min = 0.001, .max = kHour},
      {SINEW_OPTION(scheme.bn), .kind = Kind::name,
       .help = "batch norm's statistics: mixed like parameters, each worker's own, or measured anew for each test",
       .names =
           [] {
             return Names{"average", "local", "recalibrate"};
           }},

      {SINEW_OPTION(train.epochs), .kind = Kind::integer, .help = "passes of each worker over its samples",
       .alias = "epochs", .min = 1, .max = 1e6},
      {SINEW_OPTION(train.steps), .kind = Kind::integer, .help = "steps of each worker; 0: as train.epochs says",
       .alias = "steps", .unit = "steps", .max = 1e12},
      {SINEW_OPTION(train.batch), .kind = Kind::integer, .help = "samples per step and worker", .alias = "batch",
       .unit = "samples", .min = 1, .max = 1 << 20},
      {SINEW_OPTION(train.seed), .kind = Kind::integer, .help = "of weights, order of samples, dropout, simulation",
       .alias = "seed", .max = kBig},
      {SINEW_OPTION(train.threads), .kind = Kind::integer, .help = "threads of each worker; 0: the default",
       .max = 1024, .derived = "cores / workers of this machine, at least 1"},
      {SINEW_OPTION(train.eval_every), .kind = Kind::integer,
       .help = "distance of the tests on the test set; 0: an epoch", .unit = "steps", .max = 1e12},
      {SINEW_OPTION(train.precision), .kind = Kind::name,
       .help = "of activations and the products they enter; parameters, gradients, losses and the curvature are f32",
       .names =
           [] {
             return Names{"f32", "bf16"};
           }},
      {SINEW_OPTION(train.graph), .kind = Kind::name,
       .help = "what a GPU records once and replays, in processes of one worker: the step with its update, where it "
               "can (auto), the forward and backward pass, or nothing",
       .names =
           [] {
             return Names{"auto", "pass", "off"};
           }},
      {SINEW_OPTION(train.kernels), .kind = Kind::name,
       .help = "of matrix products and convolutions on a GPU: ours, or cuBLAS's and cuDNN's",
       .names =
           [] {
             return Names{"own", "vendor"};
           }},
      {SINEW_OPTION(train.nonfinite), .kind = Kind::name,
       .help = "a loss that is NaN or infinite ends the run, or its step is left out",
       .names =
           [] {
             return Names{"stop", "skip"};
           }},

      {SINEW_OPTION(run.dir), .kind = Kind::text, .help = "run folder, new for each run", .alias = "out",
       .derived = "runs/<date>-<model>-<scheme>-<k>", .path = true, .repeats = false},
      {SINEW_OPTION(run.world), .kind = Kind::name, .help = "real processes over UCX, or virtual time in one process",
       .names =
           [] {
             return Names{"ucx", "sim"};
           }},
      {SINEW_OPTION(run.device), .kind = Kind::name, .help = "where tensors live", .alias = "device",
       .names =
           [] {
             return Names{"cpu", "cuda"};
           }},
      {SINEW_OPTION(run.workers), .kind = Kind::integer, .help = "workers, the center not counted", .alias = "workers",
       .min = 1, .max = 1e6},
      {SINEW_OPTION(run.restarts), .kind = Kind::integer, .help = "of each worker that dies", .max = 1000},
      {SINEW_OPTION(run.grace), .kind = Kind::duration,
       .help =
           "without a sign of life, until a process is killed and counts as dead; at the end, how long the center is "
           "asked again for what it has not confirmed; 0: for ever",
       .max = 24 * kHour},
      {SINEW_OPTION(run.port), .kind = Kind::integer, .help = "TCP port of the rendezvous; 0: any", .max = 65535},
      {SINEW_OPTION(run.network), .kind = Kind::text,
       .help = "network device of the workers' messages; lo stays on this machine"},
      {SINEW_OPTION(run.communicator), .kind = Kind::name,
       .help = "collectives of workers on GPUs, one for each: through host memory, or by NVIDIA's NCCL",
       .names =
           [] {
             return Names{"ring", "nccl"};
           }},

      {SINEW_OPTION(sim.latency), .kind = Kind::duration, .help = "of each message", .max = kHour},
      {SINEW_OPTION(sim.bandwidth), .kind = Kind::real, .help = "of a node in each direction", .unit = "bytes/s",
       .min = 1, .max = kBig},
      {SINEW_OPTION(sim.service), .kind = Kind::duration,
       .help =
           "a node's time for each message that comes to a handler, such as all that come to a center; others queue",
       .max = kHour},
      {SINEW_OPTION(sim.step_seconds), .kind = Kind::duration, .help = "virtual time of a training step", .min = 1e-9,
       .max = kHour},
      {SINEW_OPTION(sim.jitter), .kind = Kind::real, .help = "steps take 1 - jitter to 1 + jitter times that",
       .max = 0.99},
      {SINEW_OPTION(sim.detection), .kind = Kind::duration, .help = "from a death until the others know", .max = kHour},
      {SINEW_OPTION(sim.always_yield), .kind = Kind::toggle,
       .help = "yield at every call; for checking that nothing depends on it"},

      {SINEW_OPTION(sim.threads), .kind = Kind::integer,
       .help = "steps of different workers that are computed at once, with train.threads each; 0: the default",
       .unit = "steps", .max = 1024,
       .derived = "cores / train.threads, 1 with run.device cuda; no result depends on it"},

      {SINEW_OPTION(fault.plan), .kind = Kind::text, .help = "file of faults to inject", .path = true},

      {SINEW_OPTION(log.level), .kind = Kind::name, .help = "least severe message that is logged",
       .names =
           [] {
             return Names{"debug", "info", "warning", "error"};
           }},
      {SINEW_OPTION(log.every), .kind = Kind::duration, .help = "between plain progress lines", .min = 0.01,
       .max = 24 * kHour},
      {SINEW_OPTION(log.progress), .kind = Kind::name,
       .help = "bar on terminals and plain lines elsewhere, or always one of them",
       .names =
           [] {
             return Names{"auto", "bar", "plain", "none"};
           }},
  };
}
#undef SINEW_OPTION

}  // namespace

const std::vector<OptionSpec>& option_table() {
  static const std::vector<OptionSpec> table = make_table();
  return table;
}

}  // namespace sinew::train
