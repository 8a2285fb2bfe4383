#include <filesystem>
#include <iostream>

#include "models/cli/program.h"

int main(int argc, char** argv) {
  std::error_code error;
  std::filesystem::path self = std::filesystem::read_symlink("/proc/self/exe", error);
  std::vector<std::string> command(argv, argv + argc);
  sinew::train::Runners runners{sinew::train::run_local_job, sinew::train::run_node, sinew::train::run_simulation,
                                sinew::train::evaluate_file};
  return sinew::train::run_program(error ? command.at(0) : self.string(), command, runners, std::cout, std::cerr);
}
