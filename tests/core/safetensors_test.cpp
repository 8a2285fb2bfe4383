#include "core/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/safetensors_property.h"

namespace sinew {
namespace {

using fuzz::Bytes;

// A file from its header's text and its data.
Bytes file_of(const std::string& header, const Bytes& data = {}) {
  Bytes bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<uint8_t>(header.size() >> (8 * i)));
  bytes.insert(bytes.end(), header.begin(), header.end());
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}
Result<SafetensorsFile> parse(const Bytes& bytes) {
  return parse_safetensors(reinterpret_cast<const std::byte*>(bytes.data()), bytes.size(), "model.safetensors");
}
// The error of a file that must be refused.
std::string refused(const Bytes& bytes) {
  const Result<SafetensorsFile> file = parse(bytes);
  EXPECT_FALSE(file.ok());
  if (file.ok()) return "";
  EXPECT_EQ(file.status().code(), StatusCode::data_error);
  EXPECT_TRUE(fuzz::is_one_line(file.status().message()));
  EXPECT_TRUE(file.status().message().starts_with("model.safetensors: ")) << file.status().message();
  return file.status().message();
}
std::string refused(const std::string& header, size_t data_bytes = 0) {
  return refused(file_of(header, Bytes(data_bytes)));
}

NamedArray array_of(DType dtype, const Shape& shape, const Bytes& bytes) {
  NamedArray array{dtype, shape, {}};
  array.bytes.resize(bytes.size());
  if (!bytes.empty()) std::memcpy(array.bytes.data(), bytes.data(), bytes.size());
  return array;
}

struct TemporaryFolder {
  TemporaryFolder() {
    std::string pattern = testing::TempDir() + "sinew-safetensors-XXXXXX";
    path = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path); }
  std::string operator/(const std::string& name) const { return path + "/" + name; }
  std::string path;
};
Bytes contents(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), {});
}
void put(const std::string& path, const Bytes& bytes) {
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
}

// {"b": f32 (2) = 1, -2; "a": u8 (3) = 7, 8, 9} with metadata, every byte by hand.
Bytes golden() {
  const std::string header = R"({"__metadata__":{"step":"12"},"a":{"data_offsets":[8,11],"dtype":"U8","shape":[3]},)"
                             R"("b":{"data_offsets":[0,8],"dtype":"F32","shape":[2]}})";
  Bytes bytes = {0x88, 0, 0, 0, 0, 0, 0, 0};
  bytes.insert(bytes.end(), header.begin(), header.end());
  while (bytes.size() < 8 + 0x88) bytes.push_back(' ');
  for (uint8_t v : {0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0xc0, 7, 8, 9}) bytes.push_back(v);
  return bytes;
}
SafetensorsFile golden_file() {
  SafetensorsFile file;
  file.metadata["step"] = "12";
  file.tensors["a"] = array_of(DType::u8, {3}, {7, 8, 9});
  file.tensors["b"] = array_of(DType::f32, {2}, {0, 0, 0x80, 0x3f, 0, 0, 0, 0xc0});
  return file;
}
void expect_equal(const SafetensorsFile& a, const SafetensorsFile& b) {
  EXPECT_EQ(a.metadata, b.metadata);
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (const auto& [name, array] : a.tensors) {
    ASSERT_TRUE(b.tensors.count(name)) << name;
    const NamedArray& other = b.tensors.at(name);
    EXPECT_EQ(array.dtype, other.dtype) << name;
    EXPECT_EQ(array.shape, other.shape) << name;
    EXPECT_EQ(array.bytes, other.bytes) << name;
  }
}

TEST(Safetensors, ReadsAFileWrittenByHand) {
  const Result<SafetensorsFile> file = parse(golden());
  ASSERT_TRUE(file.ok()) << file.status().message();
  expect_equal(*file, golden_file());
}

TEST(Safetensors, WritesTheSameBytes) {
  TemporaryFolder folder;
  const std::string path = folder / "golden.safetensors";
  ASSERT_TRUE(write_safetensors(path, golden_file()).ok());
  EXPECT_EQ(contents(path), golden());
  EXPECT_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST(Safetensors, RoundTripOfEveryTypeAndOddShapes) {
  SafetensorsFile file;
  file.metadata = {{"", "empty key"}, {"quote\"\\", "new\nline \xc3\xa9"}};
  file.tensors["f64"] = array_of(DType::f64, {2, 1, 3}, Bytes(48, 1));
  file.tensors["f32"] = array_of(DType::f32, {1, 1, 1, 1, 1, 2}, Bytes(8, 2));
  file.tensors["i64 scalar"] = array_of(DType::i64, {}, Bytes(8, 3));
  file.tensors["i32"] = array_of(DType::i32, {3}, Bytes(12, 4));
  file.tensors["\xce\xb8/u8"] = array_of(DType::u8, {5}, Bytes(5, 5));
  file.tensors["empty"] = array_of(DType::f32, {0, 4}, {});
  file.tensors["zero"] = array_of(DType::f64, {4, 0}, {});
  TemporaryFolder folder;
  const std::string path = folder / "all.safetensors";
  ASSERT_TRUE(write_safetensors(path, file).ok());
  const Result<SafetensorsFile> back = read_safetensors(path);
  ASSERT_TRUE(back.ok()) << back.status().message();
  expect_equal(*back, file);
  const Bytes bytes = contents(path);
  const Result<SafetensorsFile> parsed = parse(bytes);
  ASSERT_TRUE(parsed.ok()) << parsed.status().message();
  expect_equal(*parsed, file);
  EXPECT_EQ(bytes[0] % 8, 0) << "the data begin at a multiple of 8";
}

TEST(Safetensors, EmptyFileOfTensors) {
  EXPECT_TRUE(parse(file_of("{}")).ok());
  EXPECT_TRUE(parse(file_of("{}   ")).ok());
  TemporaryFolder folder;
  ASSERT_TRUE(write_safetensors(folder / "x", {}).ok());
  const Result<SafetensorsFile> file = read_safetensors(folder / "x");
  ASSERT_TRUE(file.ok());
  EXPECT_TRUE(file->tensors.empty());
}

TEST(Safetensors, RefusesHostileLengths) {
  EXPECT_NE(refused(Bytes{}).find("0 bytes are too few"), std::string::npos);
  EXPECT_NE(refused(Bytes(7)).find("7 bytes are too few"), std::string::npos);
  Bytes bytes = golden();
  bytes[7] = 0xff;  // 2^63 and more
  EXPECT_NE(refused(bytes).find("at most 100000000"), std::string::npos);
  bytes = golden();
  bytes[1] = 0x01;
  EXPECT_NE(refused(bytes).find("does not fit the file"), std::string::npos);
  EXPECT_NE(refused(Bytes(8)).find("does not begin with '{'"), std::string::npos);
}

TEST(Safetensors, RefusesTruncationAtEveryByte) {
  const Bytes bytes = golden();
  for (size_t n = 0; n < bytes.size(); ++n)
    refused(Bytes(bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(n)));
}

TEST(Safetensors, RefusesHostileHeaders) {
  auto expect = [](const std::string& header, size_t data, const std::string& part) {
    const std::string message = refused(header, data);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  expect("[]", 0, "does not begin with '{'");
  expect(" {}", 0, "does not begin with '{'");
  expect("{", 0, "not valid JSON");
  expect("{}x", 0, "not valid JSON");
  expect("{}", 1, "1 trailing bytes");
  expect("{\"\xff\":{}}", 0, "not valid JSON (UTF-8)");
  expect(R"({"w":5})", 0, "tensor 'w': unexpected number");
  expect(R"({"w":null})", 0, "unexpected null");
  expect(R"({"w":[]})", 0, "unexpected array");
  expect(R"({"w":{}})", 0, "needs each of dtype, shape, data_offsets");
  expect(R"({"w":{"dtype":"F32","shape":[1]}})", 0, "needs each of dtype, shape, data_offsets");
  expect(R"({"w":{"dtype":"F32","dtype":"F32"}})", 0, "duplicate key 'dtype'");
  expect(
      R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
      4, "duplicate key 'w'");
  expect(R"({"__metadata__":{},"__metadata__":{}})", 0, "duplicate key '__metadata__'");
  expect(R"({"__metadata__":{"a":"1","a":"2"}})", 0, "duplicate key 'a'");
  expect(R"({"__metadata__":{"a":1}})", 0, "'__metadata__': unexpected number 1");
  expect(R"({"__metadata__":{"a":{}}})", 0, "unexpected object");
  expect(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"extra":1}})", 4, "unknown field 'extra'");
  expect(R"({"w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}})", 2, "type 'BF16' is not one of F32");
  expect(R"({"w":{"dtype":1,"shape":[1],"data_offsets":[0,4]}})", 4, "unexpected number");
  expect(R"({"w":{"dtype":"F32","shape":"x","data_offsets":[0,4]}})", 4, "unexpected string");
  expect(R"({"w":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4, "negative number -1");
  expect(R"({"w":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", 4, "number '1.0'");
  expect(R"({"w":{"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,4]}})", 4, "unsigned 64-bit integer");
  expect(R"({"w":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}})", 4, "too many elements");
  expect(R"({"w":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", 0, "too many elements");
  expect(R"({"w":{"dtype":"F64","shape":[2305843009213693952],"data_offsets":[0,0]}})", 0, "does not fill the 0 bytes");
  expect(R"({"w":{"dtype":"U8","shape":[1,1,1,1,1,1,1],"data_offsets":[0,1]}})", 1, "more than 6 dimensions");
  expect(R"({"w":{"dtype":"U8","shape":[[1]],"data_offsets":[0,1]}})", 1, "unexpected array");
  expect(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4, "two ascending numbers");
  expect(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", 4, "more than two numbers");
  expect(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4, "two ascending numbers");
  expect(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 4, "end at 8, the file has 4 bytes");
  expect(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,18446744073709551615]}})", 4, "the file has 4 bytes");
  expect(R"({"w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4, "shape (2) f32 does not fill the 4 bytes");
  expect(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 5, "1 trailing bytes");
  expect(R"({"w":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", 8, "after a hole");
  expect(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
         6, "tensor 'b': its data begin at 2, inside another tensor");
  expect(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}})",
         6, "tensor 'b': its data begin at 4, after a hole");
}

TEST(Safetensors, RefusesDeepNestingWithoutRecursion) {
  EXPECT_NE(refused("{\"w\":" + std::string(1'000'000, '[')).find("unexpected array"), std::string::npos);
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"dtype\":";
  EXPECT_NE(refused(objects).find("unexpected object"), std::string::npos);
}

TEST(Safetensors, MessagesStayOneShortLine) {
  const std::string message = refused("{\"" + std::string(100'000, 'x') + "\\n\":1}");
  EXPECT_LT(message.size(), 200u);
  EXPECT_NE(refused(R"({"a\nb\u001b":1})").find(R"(tensor 'a\x0ab\x1b')"), std::string::npos);
}

TEST(Safetensors, MutationsNeverBreakIt) {
  size_t accepted = 0;
  for (uint64_t i = 0; i < 20'000; ++i) {
    const Bytes bytes = fuzz::mutate(golden(), i);
    ASSERT_EQ(fuzz::check_safetensors(bytes.data(), bytes.size()), "") << "mutation " << i;
    accepted += parse(bytes).ok();
  }
  EXPECT_GT(accepted, 0u);       // changed values, names and metadata
  EXPECT_LT(accepted, 10'000u);  // most edits are defects
}

TEST(Safetensors, FilesThatCannotBeRead) {
  TemporaryFolder folder;
  const Result<SafetensorsFile> missing = read_safetensors(folder / "no.safetensors");
  EXPECT_EQ(missing.status().code(), StatusCode::not_found);
  EXPECT_NE(missing.status().message().find("no.safetensors"), std::string::npos);
  EXPECT_EQ(read_safetensors(folder.path).status().code(), StatusCode::data_error);
  ASSERT_EQ(::mkfifo((folder / "pipe").c_str(), 0600), 0);
  EXPECT_EQ(read_safetensors(folder / "pipe").status().code(), StatusCode::data_error);
  Bytes cut = golden();
  cut.pop_back();
  put(folder / "cut", cut);
  EXPECT_EQ(read_safetensors(folder / "cut").status().code(), StatusCode::data_error);
}

TEST(Safetensors, WriteLeavesTheOldFileWhenItFails) {
  TemporaryFolder folder;
  const std::string path = folder / "model.safetensors";
  ASSERT_TRUE(write_safetensors(path, golden_file()).ok());
  SafetensorsFile bad = golden_file();
  bad.metadata["x"] = "\xff";
  EXPECT_EQ(write_safetensors(path, bad).code(), StatusCode::invalid_argument);
  EXPECT_EQ(contents(path), golden());
  EXPECT_EQ(write_safetensors(folder / "no/such/model", golden_file()).code(), StatusCode::not_found);
  ASSERT_TRUE(std::filesystem::create_directory(folder / "taken"));
  EXPECT_EQ(write_safetensors(folder / "taken", golden_file()).code(), StatusCode::io_error);
  EXPECT_FALSE(std::filesystem::exists(folder / "taken.tmp"));
}

TEST(Safetensors, WriteChecksItsArguments) {
  SafetensorsFile file = golden_file();
  file.tensors["a"].bytes.pop_back();
  EXPECT_THROW((void)write_safetensors("never-written", file), Error);
  file = golden_file();
  file.tensors["__metadata__"] = file.tensors["a"];
  EXPECT_THROW((void)write_safetensors("never-written", file), Error);
  file = golden_file();
  file.tensors["b"] = {DType::bf16, {2}, std::vector<std::byte>(4)};
  EXPECT_THROW((void)write_safetensors("never-written", file), Error);
}

}  // namespace
}  // namespace sinew
