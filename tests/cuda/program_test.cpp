// `sinew ... --device cuda` as its users meet it, in processes of its own.
#ifdef SINEW_PROGRAM
#include <cmath>
#include <cstring>
#include <map>

#include "core/safetensors.h"
#include "tests/cuda/support.h"
#include "tests/models/program_fixture.h"

namespace sinew::train::testing {
namespace {

Words small(Words more) {
  Words words = {"--data.train_size", "200", "--data.resize",  "8",   "--model.hidden", "16",
                 "--batch",           "8",   "--steps",        "12",  "--lr",           "0.02",
                 "--train.threads",   "1",   "--log.progress", "none"};
  words.insert(words.begin(), more.begin(), more.end());
  return words;
}

class ProgramOnCuda : public Program {
 protected:
  // Runs the same settings on both devices; the losses must agree to this share of them.
  void compare(const Words& what, double tolerance = 1e-4) {
    double loss[2];
    for (int cuda = 0; cuda < 2; ++cuda) {
      Words words = small(what);
      const std::string folder = cuda ? "cuda" : "cpu";
      words.insert(words.end(), {"--device", folder, "--out", root_ + "/" + folder});
      auto run = start(words);
      ASSERT_EQ(run->wait(), 0) << run->output();
      loss[cuda] = summary(folder).at("test_loss");
    }
    EXPECT_NEAR(loss[1], loss[0], tolerance * loss[0]);
  }
};

TEST_F(ProgramOnCuda, SaysInOneLineWhatIsMissing) {
  if (cuda::install().ok()) GTEST_SKIP() << "there is a device; CI's stage nvcc has none";
  for (const char* verb : {"train", "sim"}) expect_failure(2, {verb, "--device", "cuda"}, {"run.device cuda: no CUDA"});
}

TEST_F(ProgramOnCuda, TrainsAndTests) {
  SINEW_NEEDS_CUDA();
  compare({"train"});
  auto eval = start({"eval", root_ + "/cuda", "--json"});
  ASSERT_EQ(eval->wait(), 0) << eval->output();
  EXPECT_NEAR(Json::parse(eval->output()).at("test_loss"), summary("cuda").at("test_loss"), 1e-6);
  EXPECT_NE(slurp(root_ + "/cuda/config.toml").find("device = \"cuda\""), std::string::npos);
}

TEST_F(ProgramOnCuda, ProbesLikeTheCpu) {
  SINEW_NEEDS_CUDA();
  auto run = start(small({"train", "--device", "cuda", "--out", root_ + "/run"}));
  ASSERT_EQ(run->wait(), 0) << run->output();
  const std::string weights = root_ + "/run/model.safetensors", batch = root_ + "/batch.safetensors";
  const Result<SafetensorsFile> trained = read_safetensors(weights);
  ASSERT_TRUE(trained.ok()) << trained.status().message();
  SafetensorsFile file;
  constexpr int64_t kN = 5;
  const int64_t features = trained->tensors.at("fc1.weight").shape[1];
  const auto add = [&]<class T>(const std::string& name, const std::vector<T>& values, const Shape& shape) {
    NamedArray array{dtype_of<T>, shape, std::vector<std::byte>(values.size() * sizeof(T))};
    std::memcpy(array.bytes.data(), values.data(), array.bytes.size());
    file.tensors[name] = std::move(array);
  };
  add("inputs", sinew::testing::random_values<float>(static_cast<size_t>(kN * features), -1, 1, 1), {kN, features});
  add("labels", std::vector<int64_t>{3, 1, 4, 1, 5}, {kN});
  for (const auto& [name, tensor] : trained->tensors) file.tensors["z." + name] = tensor;
  ASSERT_TRUE(write_safetensors(batch, file).ok());
  std::map<std::string, std::vector<float>> made[2];
  for (int cuda = 0; cuda < 2; ++cuda) {
    const std::string out = root_ + "/out" + std::to_string(cuda);
    auto probe = start({"probe", "--model", "mlp", "--model.hidden", "16", "--weights", weights, "--batch", batch,
                        "--mode", "train", "--out", out, "--device", cuda ? "cuda" : "cpu"});
    ASSERT_EQ(probe->wait(), 0) << probe->output();
    const Result<SafetensorsFile> read = read_safetensors(out);
    ASSERT_TRUE(read.ok()) << read.status().message();
    for (const auto& [name, tensor] : read->tensors) {
      std::vector<float>& values = made[cuda][name];
      values.resize(tensor.bytes.size() / sizeof(float));
      std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
    }
  }
  ASSERT_EQ(made[0].size(), 2 + 2 * trained->tensors.size());
  for (const auto& [name, want] : made[0]) {
    const std::vector<float>& got = made[1][name];
    ASSERT_EQ(got.size(), want.size()) << name;
    float largest = 0;
    for (const float value : want) largest = std::max(largest, std::abs(value));
    EXPECT_GT(largest, 0) << name;
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5f * largest) << name << " " << i;
  }
}

TEST_F(ProgramOnCuda, TrainsInBf16) {
  SINEW_NEEDS_CUDA();
  // Where sums in another order are rounded to the neighbour, the runs drift apart by that.
  compare({"train", "--train.precision", "bf16"}, 0.01);
}

#if defined(SINEW_STAND_IN_CUBLAS)
TEST_F(ProgramOnCuda, TrainsByTheVendorsKernels) {
  SINEW_NEEDS_CUDA();
  unsetenv("SINEW_CUBLAS");
  expect_failure(2, {"train", "--device", "cuda", "--train.kernels", "vendor"},
                 {"train.kernels vendor: cuBLAS: the emulated device has none; or type --train.kernels own"});
  setenv("SINEW_CUBLAS", SINEW_STAND_IN_CUBLAS, 1);
  setenv("SINEW_CUDNN", SINEW_STAND_IN_CUDNN, 1);
  double loss[2];
  for (const std::string kernels : {"own", "vendor"}) {
    auto run = start(small({"train", "--device", "cuda", "--train.kernels", kernels, "--out", root_ + "/" + kernels}));
    ASSERT_EQ(run->wait(), 0) << run->output();
    loss[kernels == "vendor"] = summary(kernels).at("test_loss");
  }
  EXPECT_NEAR(loss[1], loss[0], 1e-4 * loss[0]);
}
#endif

TEST_F(ProgramOnCuda, SimulatesWorkersOnTheDevice) {
  SINEW_NEEDS_CUDA();
  compare({"sim", "--workers", "4", "--scheme", "easgd", "--scheme.period", "4"});
}

TEST_F(ProgramOnCuda, FourWorkersShareTheDeviceOverUcx) {
  SINEW_NEEDS_CUDA();
  if (!dist::ucx_available()) GTEST_SKIP() << "built without UCX: one process only";
  // Asynchronous, so the runs differ by about a hundredth; an untrained network is off by five.
  compare({"train", "--workers", "4", "--scheme", "easgd", "--scheme.period", "4"}, 0.03);
  const Json s = summary("cuda");
  EXPECT_EQ(s.at("evaluated"), "center");
  EXPECT_EQ(s.at("exchanges"), 4 * 3);
}

// Each process replays its own graphs, with the update in them (dpsgd) or outside (allreduce); what they exchange is
// the same either way.
TEST_F(ProgramOnCuda, GraphsOfSeveralProcessesChangeNoBit) {
  SINEW_NEEDS_CUDA();
  if (!dist::ucx_available()) GTEST_SKIP() << "built without UCX: one process only";
  for (const std::string scheme : {"dpsgd", "allreduce"}) {
    std::map<std::string, std::string> sums;
    for (const std::string graph : {"auto", "pass", "off"}) {
      const std::string folder = scheme + "_" + graph;
      auto run = start(small({"train", "--workers", "2", "--device", "cuda", "--scheme", scheme, "--optim",
                              "adahessian", "--optim.hessian_every", "3", "--optim.warmup_steps", "8", "--train.graph",
                              graph, "--out", root_ + "/" + folder}));
      ASSERT_EQ(run->wait(), 0) << run->output();
      sums[graph] = summary(folder).at("parameters_sha256");
    }
    EXPECT_EQ(sums["auto"], sums["off"]) << scheme;
    EXPECT_EQ(sums["pass"], sums["off"]) << scheme;
  }
}

// The update is made before the loss is looked at, and reaches nobody: the run ends at once, as without graphs.
TEST_F(ProgramOnCuda, ALossThatIsNotFiniteEndsARecordedRunToo) {
  SINEW_NEEDS_CUDA();
  for (const char* graph : {"auto", "off"}) {
    Words words = small({"train", "--device", "cuda", "--train.graph", graph, "--out", root_ + "/" + graph});
    words.insert(words.end(), {"--lr", "1e30"});
    expect_failure(6, words, {"the loss is", "lower --lr"});
  }
}

TEST_F(ProgramOnCuda, SynchronousWorkersEqualTheCpu) {
  SINEW_NEEDS_CUDA();
  if (!dist::ucx_available()) GTEST_SKIP() << "built without UCX: one process only";
  compare({"train", "--workers", "2", "--scheme", "allreduce"});
}

#ifdef SINEW_STAND_IN_NCCL
class ProgramWithNccl : public ProgramOnCuda {
 protected:
  void SetUp() override {
    if (!dist::ucx_available()) GTEST_SKIP() << "built without UCX: one process only";
    ProgramOnCuda::SetUp();
    setenv("SINEW_NCCL", SINEW_STAND_IN_NCCL, 1);
  }
  void TearDown() override {
    unsetenv("SINEW_NCCL");
    if (!root_.empty()) ProgramOnCuda::TearDown();
  }
  Words workers(const std::string& scheme, const std::string& communicator, Words more = {}) {
    Words words = small({"train", "--device", "cuda", "--workers", "3", "--scheme", scheme, "--run.communicator",
                         communicator, "--out", root_ + "/" + communicator});
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
};

TEST_F(ProgramWithNccl, WorkersEqualThoseOfTheRing) {
  double loss[2];
  for (int nccl = 0; nccl < 2; ++nccl) {
    const std::string communicator = nccl ? "nccl" : "ring";
    auto run = start(workers("allreduce", communicator));
    ASSERT_EQ(run->wait(), 0) << run->output();
    loss[nccl] = summary(communicator).at("test_loss");
  }
  EXPECT_NEAR(loss[1], loss[0], 1e-5 * loss[0]);
}

TEST_F(ProgramWithNccl, GoesOnWithoutAKilledWorker) {
  auto run = start(workers("allreduce", "nccl", {"--steps", "200"}));
  const int pid = pid_at_step("nccl", 0, 5, *run);
  ASSERT_GT(pid, 0) << run->output();
  kill(pid, SIGKILL);
  ASSERT_EQ(run->wait(), 0) << run->output();
  EXPECT_EQ(summary("nccl").at("lost"), Json({0}));
}

TEST_F(ProgramWithNccl, SaysInOneLineWhatDoesNotFit) {
  expect_failure(2, workers("allreduce", "nccl", {"--device", "cpu"}),
                 {"run.communicator nccl: NCCL works on GPUs, and run.device is cpu; for example --device cuda"});
  expect_failure(2, workers("allreduce", "nccl", {"--run.world", "sim"}), {"run.communicator nccl: simulated workers"});
  expect_failure(2, workers("allreduce", "nccl", {"--scheme.wire", "int8"}), {"communicator = nccl with wire = int8"});
  expect_failure(2, workers("easgd", "nccl"), {"communicator = nccl with scheme easgd", "allreduce, easgd_sync"});
  setenv("SINEW_NCCL", "libno_such_nccl.so", 1);
  expect_failure(2, workers("allreduce", "nccl"), {"libno_such_nccl.so", "install libnccl2"});
}
#endif

}  // namespace
}  // namespace sinew::train::testing
#endif
