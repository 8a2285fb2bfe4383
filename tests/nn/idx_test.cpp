#include "nn/data/idx.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "nn/data/u8_dataset.h"
#include "tests/fuzz/idx_property.h"
#include "tests/nn/data_files.h"

namespace sinew::nn {
namespace {

Bytes idx_of(const std::vector<uint32_t>& extents, const Bytes& values, uint8_t type = 8) {
  Bytes bytes = {0, 0, type, static_cast<uint8_t>(extents.size())};
  for (uint32_t extent : extents)
    for (int shift : {24, 16, 8, 0}) bytes.push_back(static_cast<uint8_t>(extent >> shift));
  bytes.insert(bytes.end(), values.begin(), values.end());
  return bytes;
}

// printf '\0\0\10\1\0\0\2\0' and 512 zero bytes through gzip -9n: deflate with matches.
Bytes gzip_of_zeros() {
  return {0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x63, 0x60, 0xe0, 0x60, 0x64, 0x60,
          0x60, 0x62, 0x18, 0x05, 0x23, 0x1b, 0x00, 0x00, 0xe3, 0x50, 0x48, 0x03, 0x08, 0x02, 0x00, 0x00};
}

Result<IdxArray> parse(const Bytes& bytes) { return parse_idx(bytes.data(), bytes.size(), "the-file"); }
std::string refused(const Bytes& bytes, StatusCode code = StatusCode::data_error) {
  const Result<IdxArray> array = parse(bytes);
  EXPECT_FALSE(array.ok());
  if (array.ok()) return "";
  EXPECT_EQ(array.status().code(), code) << array.status().message();
  EXPECT_TRUE(array.status().message().starts_with("the-file: ")) << array.status().message();
  return array.status().message();
}

// Builds without zlib must say so; there is nothing more to test about packed files then.
#define NEEDS_ZLIB()                                                                        \
  if (const auto packed = parse(gzip_of(idx_of({1}, {1})));                                 \
      !packed.ok() && packed.status().code() == StatusCode::unavailable) {                  \
    EXPECT_HAS(packed.status().message(), "the-file: this program was built without zlib"); \
    GTEST_SKIP() << "built without zlib";                                                   \
  }

TEST(Idx, ReadsPlainFiles) {
  const Result<IdxArray> array = parse(idx_of({2, 1, 3}, {1, 2, 3, 4, 5, 6}));
  ASSERT_TRUE(array.ok()) << array.status().message();
  EXPECT_EQ(array->shape, (Shape{2, 1, 3}));
  EXPECT_EQ(array->values, (Bytes{1, 2, 3, 4, 5, 6}));
}

TEST(Idx, ReadsPackedFiles) {
  NEEDS_ZLIB();
  const Result<IdxArray> stored = parse(gzip_of(idx_of({2, 3}, {1, 2, 3, 4, 5, 6})));
  ASSERT_TRUE(stored.ok()) << stored.status().message();
  EXPECT_EQ(stored->values, (Bytes{1, 2, 3, 4, 5, 6}));
  const Result<IdxArray> zeros = parse(gzip_of_zeros());
  ASSERT_TRUE(zeros.ok()) << zeros.status().message();
  EXPECT_EQ(zeros->values, Bytes(512));
}

TEST(Idx, ReadsSeveralGzipMembers) {
  NEEDS_ZLIB();
  const Bytes whole = idx_of({6}, {1, 2, 3, 4, 5, 6});
  Bytes bytes;
  for (const Bytes& part : {Bytes(whole.begin(), whole.begin() + 3), Bytes(whole.begin() + 3, whole.end())}) {
    const Bytes member = gzip_of(part);
    bytes.insert(bytes.end(), member.begin(), member.end());
  }
  const Result<IdxArray> array = parse(bytes);
  ASSERT_TRUE(array.ok()) << array.status().message();
  EXPECT_EQ(array->values, (Bytes{1, 2, 3, 4, 5, 6}));
}

TEST(Idx, RefusesBadHeaders) {
  EXPECT_HAS(refused({}), "0 bytes are too few");
  EXPECT_HAS(refused({'P', 'K', 3, 4, 0}), "it begins with bytes 80 75, expected 0 0");
  EXPECT_HAS(refused(idx_of({1}, {0, 0, 0, 0}, 0x0d)), "32-bit floats (code 13)");
  EXPECT_HAS(refused(idx_of({1}, {0}, 0x07)), "an unknown type (code 7)");
  EXPECT_HAS(refused(idx_of({}, {})), "0 dimensions, allowed are 1 to 6");
  EXPECT_HAS(refused(idx_of({1, 1, 1, 1, 1, 1, 1}, {1})), "7 dimensions");
  EXPECT_HAS(refused({0, 0, 8, 3, 0, 0}), "truncated in its header of 16 bytes");
  EXPECT_HAS(refused(idx_of({0xffffffff, 0xffffffff, 0xffffffff}, {1})), "more than 2147483648 values");
  EXPECT_HAS(refused(idx_of({0xffffffff, 0xffffffff, 0}, {1})), "more than 2147483648 values");
}

TEST(Idx, RefusesSizesThatDoNotMatch) {
  EXPECT_HAS(refused(idx_of({2, 3}, {1, 2, 3, 4, 5})), "truncated: shape (2, 3) needs 18 bytes, the file has 17");
  EXPECT_HAS(refused(idx_of({2, 3}, Bytes(8))), "trailing bytes: shape (2, 3) needs 18 bytes, the file has 20");
  NEEDS_ZLIB();
  EXPECT_HAS(refused(gzip_of(idx_of({2, 3}, Bytes(5)))),
             "truncated: shape (2, 3) needs 18 bytes, the file unpacks to 17");
  EXPECT_HAS(refused(gzip_of(idx_of({2, 3}, Bytes(7)))),
             "trailing bytes: shape (2, 3) needs 18 bytes, the file unpacks to");
}

TEST(Idx, AllocatesNoMoreThanAPackedFileCanHold) {
  NEEDS_ZLIB();
  const Bytes small = gzip_of(idx_of({1u << 31}, {1, 2, 3}));
  EXPECT_HAS(refused(small), "the file unpacks to at most " + std::to_string(1032 * small.size()));
}

TEST(Idx, RefusesDamagedGzip) {
  NEEDS_ZLIB();
  Bytes bytes = gzip_of_zeros();
  bytes.push_back(7);
  EXPECT_HAS(refused(bytes), "1 bytes behind the gzip data");
  bytes = gzip_of_zeros();
  bytes[bytes.size() - 8] ^= 1;
  EXPECT_HAS(refused(bytes), "corrupt gzip data (incorrect data check)");
}

TEST(Idx, RefusesTruncationAtEveryByte) {
  const Bytes plain = idx_of({2, 1, 3}, {1, 2, 3, 4, 5, 6});
  for (size_t n = 0; n < plain.size(); ++n)
    refused(Bytes(plain.begin(), plain.begin() + static_cast<std::ptrdiff_t>(n)));
  NEEDS_ZLIB();
  for (const Bytes& packed : {gzip_of(plain), gzip_of_zeros()})
    for (size_t n = 2; n < packed.size(); ++n)
      EXPECT_HAS(refused(Bytes(packed.begin(), packed.begin() + static_cast<std::ptrdiff_t>(n))), "truncated");
}

TEST(Idx, MutationsNeverBreakIt) {
  const std::array<Bytes, 3> seeds = {idx_of({2, 1, 3}, {1, 2, 3, 4, 5, 6}), gzip_of(idx_of({2, 3}, Bytes(6, 9))),
                                      gzip_of_zeros()};
  for (const Bytes& seed : seeds) {
    for (uint64_t i = 0; i < 5'000; ++i) {
      const Bytes bytes = fuzz::mutate(seed, i);
      ASSERT_EQ(fuzz::check_idx(bytes.data(), bytes.size()), "") << "mutation " << i;
    }
  }
}

// A folder of four small files: two training images and one test image of 2 x 3.
struct Folder {
  Folder() {
    std::string pattern = testing::TempDir() + "sinew-idx-XXXXXX";
    path = ::mkdtemp(pattern.data());
    put("train-images-idx3-ubyte", idx_of({2, 2, 3}, {0, 51, 102, 153, 204, 255, 1, 2, 3, 4, 5, 6}));
    put("train-labels-idx1-ubyte", idx_of({2}, {3, 9}));
    put("t10k-images-idx3-ubyte", idx_of({1, 2, 3}, {9, 8, 7, 6, 5, 4}));
    put("t10k-labels-idx1-ubyte", idx_of({1}, {0}));
  }
  ~Folder() { std::filesystem::remove_all(path); }
  void put(const std::string& name, const Bytes& bytes) const {
    std::ofstream(path + "/" + name, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  void rename(const std::string& from, const std::string& to) const {
    std::filesystem::rename(path + "/" + from, path + "/" + to);
  }
  Result<DataSplit> open() const { return open_data({.name = "mnist", .dir = path, .seed = 1, .train_size = 0}); }
  std::string error(StatusCode code = StatusCode::data_error) const {
    const Result<DataSplit> data = open();
    EXPECT_FALSE(data.ok());
    if (data.ok()) return "";
    EXPECT_EQ(data.status().code(), code) << data.status().message();
    EXPECT_TRUE(fuzz::is_one_line(data.status().message()));
    EXPECT_HAS(data.status().message(), path);
    return data.status().message();
  }
  std::string path;
};

TEST(IdxFolder, OpensAndNormalises) {
  const Result<DataSplit> data = Folder().open();
  ASSERT_TRUE(data.ok()) << data.status().message();
  const Dataset& train = *data->train;
  EXPECT_EQ(train.name(), "mnist");
  EXPECT_EQ(train.size(), 2);
  EXPECT_EQ(data->test->size(), 1);
  EXPECT_EQ(train.sample_shape(), (Shape{2, 3, 1}));
  EXPECT_EQ(train.classes(), 10);
  EXPECT_EQ(train.class_names().back(), "9");
  std::array<float, 12> inputs;
  std::array<int64_t, 2> labels;
  train.read(std::array<int64_t, 2>{1, 0}, inputs.data(), labels.data());
  EXPECT_EQ(labels, (std::array<int64_t, 2>{9, 3}));
  const std::array<int, 12> values = {1, 2, 3, 4, 5, 6, 0, 51, 102, 153, 204, 255};
  for (size_t i = 0; i < 12; ++i) EXPECT_EQ(inputs[i], static_cast<float>((values[i] / 255.0 - 0.1307) / 0.3081));
  EXPECT_THROW(train.read(std::array<int64_t, 1>{2}, inputs.data(), labels.data()), Error);
  EXPECT_THROW(train.read(std::array<int64_t, 1>{-1}, inputs.data(), labels.data()), Error);
}

TEST(IdxFolder, FindsTheOtherNames) {
  Folder folder;
  folder.rename("train-images-idx3-ubyte", "train-images.idx3-ubyte");
  folder.rename("t10k-labels-idx1-ubyte", "t10k-labels.idx1-ubyte");
  EXPECT_TRUE(folder.open().ok());
  // A browser may have unpacked what is still called .gz.
  folder.rename("t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz");
  EXPECT_TRUE(folder.open().ok());
  NEEDS_ZLIB();
  folder.put("t10k-images-idx3-ubyte.gz", gzip_of(idx_of({1, 2, 3}, Bytes(6))));
  EXPECT_TRUE(folder.open().ok());
}

TEST(IdxFolder, SaysWhatIsMissing) {
  Result<DataSplit> data = open_data({.name = "mnist", .dir = "", .seed = 1, .train_size = 0});
  ASSERT_FALSE(data.ok());
  EXPECT_EQ(data.status().code(), StatusCode::not_found);
  EXPECT_HAS(data.status().message(), "type --data.dir DIR");
  EXPECT_HAS(data.status().message(), "t10k-labels-idx1-ubyte");
  data = open_data({.name = "mnist", .dir = "no/such/folder", .seed = 1, .train_size = 0});
  ASSERT_FALSE(data.ok());
  EXPECT_EQ(data.status().code(), StatusCode::not_found);
  EXPECT_HAS(data.status().message(), "data.dir 'no/such/folder' is not a folder: type --data.dir DIR");
  Folder folder;
  std::filesystem::remove(folder.path + "/t10k-labels-idx1-ubyte");
  EXPECT_HAS(folder.error(StatusCode::not_found), "has no t10k-labels-idx1-ubyte (or .gz); expected are train-images");
}

TEST(IdxFolder, RefusesPartsThatDoNotFit) {
  Folder folder;
  folder.put("train-labels-idx1-ubyte", idx_of({3}, {1, 2, 3}));
  EXPECT_HAS(folder.error(), "2 images, but 3 labels in ");
  folder.put("train-labels-idx1-ubyte", idx_of({2, 1}, {1, 2}));
  EXPECT_HAS(folder.error(), "shape (2, 1), expected one dimension");
  folder.put("train-labels-idx1-ubyte", idx_of({2}, {1, 2}));
  folder.put("train-images-idx3-ubyte", idx_of({2, 6}, Bytes(12)));
  EXPECT_HAS(folder.error(), "shape (2, 6), expected three dimensions");
  folder.put("train-images-idx3-ubyte", idx_of({2, 0, 3}, {}));
  EXPECT_HAS(folder.error(), "holds no pixels");
  folder.put("train-images-idx3-ubyte", idx_of({2, 3, 2}, Bytes(12)));
  EXPECT_HAS(folder.error(), "shape (1, 2, 3) does not match the training images' (2, 3, 2)");
  std::filesystem::remove(folder.path + "/train-images-idx3-ubyte");
  std::filesystem::create_directory(folder.path + "/train-images-idx3-ubyte");
  EXPECT_HAS(folder.error(), "not a regular file");
}

TEST(IdxFolder, ClassesComeFromTheTrainingLabels) {
  Folder folder;
  folder.put("train-labels-idx1-ubyte", idx_of({2}, {25, 1}));
  folder.put("t10k-labels-idx1-ubyte", idx_of({1}, {25}));
  const Result<DataSplit> data = folder.open();
  ASSERT_TRUE(data.ok());
  EXPECT_EQ(data->train->classes(), 26);
  EXPECT_EQ(data->test->classes(), 26);
  folder.put("t10k-labels-idx1-ubyte", idx_of({1}, {26}));
  EXPECT_HAS(folder.error(), "label 26, but the training labels give only 26 classes");
}

TEST(IdxFolder, RealMnist) {
  const char* root = std::getenv("SINEW_DATA");
  if (root == nullptr) GTEST_SKIP() << "SINEW_DATA is not set (the folder that holds mnist/)";
  NEEDS_ZLIB();
  const Result<DataSplit> data =
      open_data({.name = "mnist", .dir = std::string(root) + "/mnist", .seed = 1, .train_size = 0});
  ASSERT_TRUE(data.ok()) << data.status().message();
  const auto& train = dynamic_cast<const U8Dataset&>(*data->train).samples();
  const auto& test = dynamic_cast<const U8Dataset&>(*data->test).samples();
  EXPECT_EQ(data->train->size(), 60000);
  EXPECT_EQ(data->test->size(), 10000);
  EXPECT_EQ(data->train->sample_shape(), (Shape{28, 28, 1}));
  std::array<int, 10> train_counts{}, test_counts{};
  for (uint8_t label : train.labels) ++train_counts[label];
  for (uint8_t label : test.labels) ++test_counts[label];
  EXPECT_EQ(train_counts, (std::array<int, 10>{5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949}));
  EXPECT_EQ(test_counts, (std::array<int, 10>{980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009}));
  double sum = 0;
  for (uint8_t v : train.values) sum += v;
  EXPECT_NEAR(sum / static_cast<double>(train.values.size()), 33.3184, 1e-4);
}

}  // namespace
}  // namespace sinew::nn
