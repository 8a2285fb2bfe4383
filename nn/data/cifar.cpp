#include "nn/data/cifar.h"

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "nn/data/data_file.h"

namespace sinew::nn {
namespace {

struct Version {
  int label_bytes;
  int64_t classes;
  std::vector<std::string> train, test;  // names of files
  std::string class_names;
  std::vector<double> mean, std;
};

Version version_of(const std::string& name) {
  if (name == "cifar100")
    return {.label_bytes = 2,
            .classes = 100,
            .train = {"train.bin"},
            .test = {"test.bin"},
            .class_names = "fine_label_names.txt",
            .mean = {kCifar100Mean.begin(), kCifar100Mean.end()},
            .std = {kCifar100Std.begin(), kCifar100Std.end()}};
  SINEW_CHECK(name == "cifar10", "open_cifar", "'", name, "' is not cifar10 or cifar100");
  Version v{.label_bytes = 1,
            .classes = 10,
            .train = {},
            .test = {"test_batch.bin"},
            .class_names = "batches.meta.txt",
            .mean = {kCifar10Mean.begin(), kCifar10Mean.end()},
            .std = {kCifar10Std.begin(), kCifar10Std.end()}};
  for (int batch = 1; batch <= 5; ++batch) v.train.push_back("data_batch_" + std::to_string(batch) + ".bin");
  return v;
}

// The names of the classes, or their numbers when there is no usable file.
std::vector<std::string> class_names(const std::string& path, int64_t classes) {
  constexpr uint64_t kMost = 64 << 10;
  std::vector<std::string> names;
  const Result<std::vector<uint8_t>> bytes = read_data_file(path, kMost);
  std::istringstream in(bytes.ok() ? std::string(bytes->begin(), bytes->end()) : std::string());
  for (std::string line; static_cast<int64_t>(names.size()) < classes && std::getline(in, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() || line.size() > 100 || std::ranges::any_of(line, [](unsigned char c) { return c < 0x20; })) break;
    names.push_back(line);
  }
  if (static_cast<int64_t>(names.size()) == classes) return names;
  names.clear();
  for (int64_t c = 0; c < classes; ++c) names.push_back(std::to_string(c));
  return names;
}

Result<U8Samples> read_part(const Version& version, const std::vector<std::string>& files, const std::string& name,
                            const std::string& dir) {
  U8Samples samples;
  samples.name = name;
  samples.sample_shape = {kCifarSide, kCifarSide, 3};
  samples.classes = version.classes;
  samples.class_names = class_names((std::filesystem::path(dir) / version.class_names).string(), version.classes);
  samples.mean = version.mean, samples.std = version.std;
  for (const std::string& file : files) {
    const std::string path = find_data_file(dir, file);
    Result<std::vector<uint8_t>> bytes = read_data_file(path);
    if (!bytes.ok()) return bytes.status();
    bytes = unpacked(std::move(*bytes), path);
    if (!bytes.ok()) return bytes.status();
    SINEW_RETURN_IF_ERROR(append_cifar(*bytes, version.label_bytes, path, samples));
  }
  return samples;
}

}  // namespace

Status append_cifar(const std::vector<uint8_t>& bytes, int label_bytes, const std::string& name, U8Samples& samples) {
  constexpr size_t kPlane = kCifarSide * kCifarSide;
  const size_t record = static_cast<size_t>(label_bytes) + 3 * kPlane, count = bytes.size() / record;
  if (bytes.empty() || bytes.size() % record != 0)
    return bad_data(name, bytes.size(), " bytes are ", count, " records of ", record, " bytes and ",
                    bytes.size() % record, " bytes: truncated, or not a file of CIFAR's binary version");
  const size_t had = samples.labels.size();
  samples.values.resize((had + count) * 3 * kPlane);
  samples.labels.resize(had + count);
  uint8_t* to = samples.values.data() + had * 3 * kPlane;
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* from = bytes.data() + i * record + static_cast<size_t>(label_bytes);
    const uint8_t label = from[-1];
    if (label >= samples.classes)
      return bad_data(name, "record ", i, " has the label ", int{label}, ", there are ", samples.classes, " classes");
    samples.labels[had + i] = label;
    for (size_t p = 0; p < kPlane; ++p)
      for (size_t c = 0; c < 3; ++c) *to++ = from[c * kPlane + p];
  }
  return Status::Ok();
}

Result<DataSplit> open_cifar(const std::string& name, const std::string& dir, const ImageOptions& options) {
  const Version version = version_of(name);
  const std::string expected = name == "cifar10" ? "expected are data_batch_1.bin to data_batch_5.bin and "
                                                   "test_batch.bin, each plain or .gz"
                                                 : "expected are train.bin and test.bin, each plain or .gz";
  SINEW_RETURN_IF_ERROR(check_data_folder(name, dir, expected));
  std::string missing;
  for (const auto* files : {&version.train, &version.test})
    for (const std::string& file : *files)
      if (find_data_file(dir, file).empty()) missing += (missing.empty() ? "" : ", ") + file;
  if (!missing.empty())
    return make_status(StatusCode::not_found, "data.dir '", dir, "' has no ", missing, " (or .gz); ", expected);
  Result<U8Samples> train = read_part(version, version.train, name, dir);
  if (!train.ok()) return train.status();
  Result<U8Samples> test = read_part(version, version.test, name, dir);
  if (!test.ok()) return test.status();
  return make_u8_split(std::move(*train), std::move(*test), options);
}

}  // namespace sinew::nn
