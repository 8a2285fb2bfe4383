#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <iostream>

#if SINEW_HAVE_CUDA
#include "cuda/install.h"
#include "cuda/vendor.h"
#endif
#include "models/cli/program.h"

namespace {

int gpus_for([[maybe_unused]] const sinew::train::Options& options) {
#if SINEW_HAVE_CUDA
  if (options.run.device == "cuda") return sinew::cuda::devices();
#endif
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::error_code error;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  // OpenMP reads this when the program is loaded. Beside busy processes, threads that wait in a spin loop stand in
  // their partner's way: a simulation took 1.6 s that way and 0.7 s with passive waiting.
  if (!error && !std::getenv("OMP_WAIT_POLICY") && setenv("OMP_WAIT_POLICY", "passive", 0) == 0)
    execv(self.c_str(), argv);  // goes on below when it fails
  std::vector<std::string> command(argv, argv + argc);
  sinew::train::Runners runners{[](const auto& options, auto& folder, const auto& arguments) {
                                  return sinew::train::run_local_job(options, folder, arguments, gpus_for(options));
                                },
                                sinew::train::run_node,
                                sinew::train::run_simulation,
                                sinew::train::evaluate_file,
                                {},
                                {}};
#if SINEW_HAVE_CUDA
  runners.install_cuda = sinew::cuda::install;
  runners.use_vendor_kernels = [] { return sinew::cuda::set_matmul_kernels(sinew::cuda::MatmulKernels::vendor); };
#endif
  return sinew::train::run_program(error ? command.at(0) : self.string(), command, runners, std::cout, std::cerr);
}
