#include <map>
#include <ostream>

#include "dist/scheme.h"
#include "models/cli/program.h"
#include "models/exit_codes.h"
#include "models/zoo/zoo.h"

namespace sinew::train {
namespace {

void print_group(const std::string& title, const std::vector<std::string>& names,
                 std::string (*about)(const std::string&), std::ostream& out) {
  out << title << "\n";
  for (const std::string& name : names) {
    std::string line = "  " + name;
    line.resize(std::max<size_t>(line.size() + 2, 22), ' ');
    out << line << about(name) << "\n";
  }
}

std::string find(const std::map<std::string, std::string>& table, const std::string& name) {
  auto entry = table.find(name);
  return entry == table.end() ? "" : entry->second;
}

std::string describe_data(const std::string& name) {
  return find(
      {{"synthetic", "28x28 images of ten classes of strokes, generated; nothing to download"},
       {"mnist", "70,000 handwritten digits, 28x28; --data.dir holds the four IDX files (.gz or not)"},
       {"cifar10", "60,000 photographs of ten classes, 32x32; --data.dir holds the six .bin files (.gz or not)"},
       {"cifar100", "60,000 photographs of a hundred classes, 32x32; --data.dir holds train.bin and test.bin"},
       {"images", "PNG and JPEG files, a folder for each class: --data.dir holds train/CLASS and val/CLASS, or CLASS"},
       {"tensors", "your own: --data.file and --data.test_file are safetensors files with x and y"},
       {"csv", "your own: rows of numbers and a class, --data.file and --data.test_file"}},
      name);
}

std::string describe_optimizer(const std::string& name) {
  return find(
      {{"sgd", "theta -= lr g"},
       {"momentum", "heavy ball: v = momentum v + g, theta -= lr v (Polyak 1964)"},
       {"nesterov", "momentum in PyTorch's form of Nesterov's method"},
       {"nag", "Nesterov's look-ahead: the gradient at theta + momentum v (Sutskever et al. 2013)"},
       {"qgm", "momentum of the movement that workers make together, for gossip (Lin et al. 2021, arXiv:2102.04761)"},
       {"adam", "averages of the gradient and its squares (Kingma and Ba 2015)"},
       {"adamw", "adam with decoupled decay (Loshchilov and Hutter 2019)"},
       {"adahessian", "adam with the Hessian's diagonal for the squares (Yao et al. 2021, arXiv:2006.00719)"},
       {"sophia_h", "clipped steps by Hutchinson's diagonal (Liu et al. 2023, arXiv:2305.14342)"},
       {"sophia_g", "the same by the Gauss-Newton diagonal of sampled labels"},
       {"lars", "momentum with a rate per layer, by ||w|| / ||g|| (You et al. 2017, arXiv:1708.03888)"},
       {"lion", "the sign of an average (Chen et al. 2023, arXiv:2302.06675)"}},
      name);
}

std::string describe_schedule(const std::string& name) {
  return find({{"constant", "the same rate in every step"},
               {"step", "times optim.gamma every optim.step_every steps"},
               {"cosine", "half a cosine from 1 to 0 over the whole run"},
               {"inverse_sqrt", "1 / sqrt(1 + optim.gamma t)"}},
              name);
}

std::string describe_preset(const std::string& name) {
  for (const Preset& preset : presets())
    if (preset.name == name) return preset.about;
  return "";
}

}  // namespace

int verb_list(const Invocation& call) {
  std::vector<std::string> preset_names;
  for (const Preset& preset : presets()) preset_names.push_back(preset.name);
  auto names = [](const char* key) { return find_option(key)->names(); };
  print_group("models (--model)", names("model.name"), describe_model, call.out);
  print_group("data sets (--data)", names("data.name"), describe_data, call.out);
  print_group("schemes (--scheme)", names("scheme.name"), dist::describe_scheme, call.out);
  print_group("optimizers (--optim)", names("optim.name"), describe_optimizer, call.out);
  print_group("schedules (--optim.schedule)", names("optim.schedule"), describe_schedule, call.out);
  print_group("presets (--preset)", preset_names, describe_preset, call.out);
  return kExitOk;
}

}  // namespace sinew::train
