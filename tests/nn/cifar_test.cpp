#include "nn/data/cifar.h"

#include <sys/stat.h>

#include <cmath>
#include <cstdlib>
#include <numeric>

#include "tests/fuzz/cifar_property.h"
#include "tests/nn/data_files.h"

namespace sinew::nn {
namespace {

// Record i of a file: labels, then plane c of value (i * 7 + c * 50 + p) mod 256.
Bytes records(int count, int label_bytes, int first_label = 0, int classes = 10) {
  Bytes bytes;
  for (int i = 0; i < count; ++i) {
    if (label_bytes == 2) bytes.push_back(static_cast<uint8_t>(19));  // coarse: not used
    bytes.push_back(static_cast<uint8_t>((first_label + i) % classes));
    for (int c = 0; c < 3; ++c)
      for (int p = 0; p < 1024; ++p) bytes.push_back(static_cast<uint8_t>(i * 7 + c * 50 + p));
  }
  return bytes;
}

struct Cifar10Folder : TemporaryFolder {
  Cifar10Folder() {
    for (int b = 1; b <= 5; ++b) put("data_batch_" + std::to_string(b) + ".bin", records(b, 1, b));
    put("test_batch.bin", records(2, 1, 3));
    put("batches.meta.txt", "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n\n");
  }
  DataOptions options() const { return {.name = "cifar10", .dir = path}; }
};

float normal(int v, double mean, double std) { return static_cast<float>((v / 255.0 - mean) / std); }

TEST(Cifar, OpensInterleavesAndNormalises) {
  const Cifar10Folder folder;
  const Result<DataSplit> data = open_data(folder.options());
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->name(), "cifar10");
  EXPECT_EQ(data->train->size(), 15);
  EXPECT_EQ(data->test->size(), 2);
  EXPECT_EQ(data->train->sample_shape(), (Shape{32, 32, 3}));
  EXPECT_EQ(data->train->classes(), 10);
  EXPECT_EQ(data->train->class_names()[9], "truck");
  const std::array<int64_t, 2> indices = {2, 14};  // record 1 of batch 2, record 4 of batch 5
  const Batch batch = read_batch(*data->train, indices);
  EXPECT_EQ(batch.labels.to_vector<int64_t>(), (std::vector<int64_t>{3, 9}));
  const std::vector<float> inputs = batch.inputs.to_vector<float>();
  for (int p = 0; p < 1024; ++p) {
    ASSERT_EQ(inputs[static_cast<size_t>(p) * 3 + 0], normal((7 + p) % 256, 0.4914, 0.2470)) << p;
    ASSERT_EQ(inputs[static_cast<size_t>(p) * 3 + 1], normal((57 + p) % 256, 0.4822, 0.2435)) << p;
    ASSERT_EQ(inputs[static_cast<size_t>(3072 + p * 3 + 2)], normal((28 + 100 + p) % 256, 0.4465, 0.2616)) << p;
  }
  EXPECT_EQ(data->train->label(14), 9);
  EXPECT_THROW(static_cast<void>(data->train->label(15)), Error);
}

TEST(Cifar, CropsAsTheOptionsSay) {
  const Cifar10Folder folder;
  DataOptions options = folder.options();
  options.image = {.augment = Augment::crop_flip, .crop = 28, .mean = {0}, .std = {1}};
  const Result<DataSplit> data = open_data(options);
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->sample_shape(), (Shape{28, 28, 3}));
  const int64_t zero = 0;
  const Batch batch = read_batch(*data->test, std::span(&zero, 1));
  EXPECT_EQ(batch.inputs.to_vector<float>()[0], static_cast<float>((2 * 32 + 2) / 255.0));
  options.image.crop = 33;
  EXPECT_HAS(refusal(options, StatusCode::invalid_argument), "data.crop 33 is more than the images' 32 x 32");
}

TEST(Cifar, Hundred) {
  const TemporaryFolder folder;
  folder.put("train.bin", records(120, 2, 0, 100));
  folder.put("test.bin", records(3, 2, 97, 100));
  Result<DataSplit> data = open_data({.name = "cifar100", .dir = folder.path});
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->classes(), 100);
  EXPECT_EQ(data->train->size(), 120);
  EXPECT_EQ(data->train->class_names()[42], "42") << "without a file of names";
  EXPECT_EQ(data->test->label(2), 99);
  const int64_t one = 1;
  const Batch batch = read_batch(*data->train, std::span(&one, 1));
  EXPECT_EQ(batch.inputs.to_vector<float>()[1], normal(57, 0.4865, 0.2564));
  std::string names;
  for (int i = 0; i < 100; ++i) names += "class" + std::to_string(i) + "\n";
  folder.put("fine_label_names.txt", names);
  data = open_data({.name = "cifar100", .dir = folder.path});
  EXPECT_EQ(data->train->class_names()[42], "class42");
  folder.remove("train.bin");
  EXPECT_HAS(refusal({.name = "cifar100", .dir = folder.path}, StatusCode::not_found),
             "has no train.bin (or .gz); expected are train.bin and test.bin");
}

TEST(Cifar, AnUnusableFileOfNamesIsNotRead) {
  const Cifar10Folder folder;
  folder.remove("batches.meta.txt");
  ASSERT_EQ(mkfifo((folder.path + "/batches.meta.txt").c_str(), 0600), 0);
  Result<DataSplit> data = open_data(folder.options());  // opened, the pipe would block
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->class_names()[9], "9");
  folder.remove("batches.meta.txt");
  std::string names = "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n";
  folder.put("batches.meta.txt", names + std::string(70 << 10, '\n'));
  data = open_data(folder.options());
  EXPECT_EQ(data->train->class_names()[9], "9") << "too long";
}

TEST(Cifar, PackedFiles) {
  const Cifar10Folder folder;
  const Result<DataSplit> plain = open_data(folder.options());
  folder.remove("data_batch_3.bin");
  folder.put("data_batch_3.bin.gz", gzip_of(records(3, 1, 3)));
  const Result<DataSplit> data = open_data(folder.options());
  if (!data.ok() && data.status().code() == StatusCode::unavailable) {
    EXPECT_HAS(data.status().message(), "this program was built without zlib");
    GTEST_SKIP() << "built without zlib";
  }
  ASSERT_TRUE(data.ok()) << data.status().message();
  std::vector<int64_t> all(15);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(read_batch(*data->train, all).inputs.to_vector<float>(),
            read_batch(*plain->train, all).inputs.to_vector<float>());
  Bytes broken = gzip_of(records(3, 1, 3));
  broken[5000] ^= 1;
  folder.put("data_batch_3.bin.gz", broken);
  EXPECT_HAS(refusal(folder.options()), "data_batch_3.bin.gz: corrupt gzip data (incorrect data check)");
  broken.resize(6000);
  folder.put("data_batch_3.bin.gz", broken);
  EXPECT_HAS(refusal(folder.options()), "data_batch_3.bin.gz: truncated gzip data");
}

TEST(Cifar, EveryDefectIsOneLine) {
  const Cifar10Folder folder;
  folder.put("data_batch_4.bin", Bytes(3073 * 2 + 100));
  EXPECT_HAS(refusal(folder.options()),
             "data_batch_4.bin: 6246 bytes are 2 records of 3073 bytes and 100 bytes: truncated");
  folder.put("data_batch_4.bin", Bytes());
  EXPECT_HAS(refusal(folder.options()), "data_batch_4.bin: 0 bytes");
  folder.put("data_batch_4.bin", Bytes(3073 * 2, 10));
  EXPECT_HAS(refusal(folder.options()), "data_batch_4.bin: record 0 has the label 10, there are 10 classes");
  folder.remove("data_batch_4.bin");
  folder.remove("test_batch.bin");
  EXPECT_HAS(refusal(folder.options(), StatusCode::not_found),
             "has no data_batch_4.bin, test_batch.bin (or .gz); expected are data_batch_1.bin to data_batch_5.bin");
  std::filesystem::create_directory(folder.at("data_batch_4.bin"));
  folder.put("test_batch.bin", records(1, 1));
  EXPECT_HAS(refusal(folder.options()), "data_batch_4.bin: not a regular file");
  EXPECT_HAS(refusal({.name = "cifar10", .dir = ""}, StatusCode::not_found), "type --data.dir DIR");
  EXPECT_HAS(refusal({.name = "cifar10", .dir = "no/folder"}, StatusCode::not_found), "is not a folder");
  EXPECT_HAS(refusal({.name = "cifar10", .dir = folder.path, .train_size = 3}, StatusCode::invalid_argument),
             "data.train_size 3 is for synthetic data");
}

TEST(Cifar, MutationsNeverBreakIt) {
  for (const Bytes& seed : {records(2, 1), records(1, 2, 99, 100)})
    for (uint64_t i = 0; i < 300; ++i) {
      const Bytes bytes = fuzz::mutate(seed, i);
      ASSERT_EQ(fuzz::check_cifar(bytes.data(), bytes.size()), "") << "mutation " << i;
    }
}

TEST(Cifar, TheRealSet) {
  const char* root = std::getenv("SINEW_DATA");
  if (root == nullptr) GTEST_SKIP() << "SINEW_DATA is not set";
  const Result<DataSplit> data = open_data({.name = "cifar10", .dir = std::string(root) + "/cifar-10-batches-bin"});
  if (!data.ok() && data.status().code() == StatusCode::unavailable) GTEST_SKIP() << "built without zlib";
  ASSERT_TRUE(data.ok()) << data.status().message();
  ASSERT_EQ(data->train->size(), 50000);
  ASSERT_EQ(data->test->size(), 10000);
  std::vector<int64_t> train(10), test(10);
  for (int64_t i = 0; i < 50000; ++i) ++train[static_cast<size_t>(data->train->label(i))];
  for (int64_t i = 0; i < 10000; ++i) ++test[static_cast<size_t>(data->test->label(i))];
  EXPECT_EQ(train, std::vector<int64_t>(10, 5000));
  EXPECT_EQ(test, std::vector<int64_t>(10, 1000));
  EXPECT_EQ(data->train->label(0), 6);
  EXPECT_EQ(data->test->label(0), 3);
  EXPECT_EQ(data->train->class_names()[6], "frog");
  const auto& values = dynamic_cast<const U8Dataset&>(*data->train).samples().values;
  EXPECT_EQ((std::array{values[0], values[3], values[6]}), (std::array<uint8_t, 3>{59, 43, 50}));  // red
  // The constants are those of the training part.
  for (size_t c = 0; c < 3; ++c) {
    double sum = 0, squares = 0;
    for (size_t i = c; i < values.size(); i += 3) sum += values[i], squares += double{1} * values[i] * values[i];
    const double n = static_cast<double>(values.size()) / 3, mean = sum / n / 255;
    EXPECT_NEAR(mean, kCifar10Mean[c], 5e-5);
    EXPECT_NEAR(std::sqrt(squares / n / 255 / 255 - mean * mean), kCifar10Std[c], 5e-5);
  }
}

}  // namespace
}  // namespace sinew::nn
