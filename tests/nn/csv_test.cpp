#include "nn/data/csv.h"

#include <cmath>
#include <numeric>

#include "nn/data/loader.h"
#include "tests/fuzz/csv_property.h"
#include "tests/nn/data_files.h"

namespace sinew::nn {
namespace {

using Texts = std::vector<std::string>;

Result<CsvTable> parse(const std::string& text, const std::string& label = "") {
  return parse_csv(Bytes(text.begin(), text.end()), label, "t.csv");
}
CsvTable parsed(const std::string& text, const std::string& label = "") {
  const Result<CsvTable> table = parse(text, label);
  EXPECT_TRUE(table.ok()) << table.status().message();
  return table.ok() ? *table : CsvTable{};
}
std::string refused(const std::string& text, const std::string& label = "") {
  const Result<CsvTable> table = parse(text, label);
  EXPECT_FALSE(table.ok());
  if (table.ok()) return "";
  EXPECT_TRUE(fuzz::is_one_line(table.status().message())) << table.status().message();
  return table.status().message();
}

TEST(Csv, Rows) {
  const CsvTable plain = parsed("1,2.5,cat\n-3,+4e1,dog\n");
  EXPECT_EQ(plain.columns, 2);
  EXPECT_TRUE(plain.names.empty());
  EXPECT_EQ(plain.values, (std::vector<float>{1, 2.5, -3, 40}));
  EXPECT_EQ(plain.labels, (Texts{"cat", "dog"}));
  EXPECT_EQ(plain.line_of, (std::vector<int64_t>{1, 2}));
  // No line end at the end, DOS line ends, a byte order mark, blanks, empty lines.
  const CsvTable dos = parsed("\xef\xbb\xbf height , width,class\r\n\r\n 1 ,\t2, cat \r\n\r\n3,4,dog");
  EXPECT_EQ(dos.names, (Texts{"height", "width"}));
  EXPECT_EQ(dos.values, (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(dos.labels, (Texts{"cat", "dog"}));
  EXPECT_EQ(dos.line_of, (std::vector<int64_t>{3, 5}));
}

TEST(Csv, Quotes) {
  const CsvTable table = parsed("\"a, b\",\"c \"\"d\"\"\",class\n\"1\",2,\"two\nlines\"\n3,4,\"\"\"\"\n");
  EXPECT_EQ(table.names, (Texts{"a, b", "c \"d\""}));
  EXPECT_EQ(table.values, (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(table.labels, (Texts{"two\nlines", "\""}));
  EXPECT_EQ(table.line_of, (std::vector<int64_t>{2, 4}));
}

TEST(Csv, LabelColumn) {
  const std::string text = "class,a,b\ncat,1,2\ndog,3,4\n";
  for (const char* label : {"class", "1"}) {
    const CsvTable table = parsed(text, label);
    EXPECT_EQ(table.names, (Texts{"a", "b"}));
    EXPECT_EQ(table.values, (std::vector<float>{1, 2, 3, 4}));
    EXPECT_EQ(table.labels, (Texts{"cat", "dog"}));
  }
  EXPECT_EQ(parsed("7,1,2\n8,3,4\n", "1").labels, (Texts{"7", "8"})) << "numbers only: no header";
  EXPECT_EQ(parsed("a,b,class\n1,2,0\n").labels, (Texts{"0"}));
  EXPECT_EQ(refused(text, "colour"),
            "data.label 'colour': t.csv has no such column; its first line is 'class', 'a', 'b'");
  EXPECT_HAS(refused(text, "4"), "data.label '4': t.csv has no such column");
  EXPECT_HAS(refused(text, "0"), "data.label '0'");
}

TEST(Csv, ABrokenFirstRowIsNoHeader) {
  const std::string why =
      ", others are numbers: not a row, and a header only if --data.label NAME names a column of it";
  EXPECT_EQ(refused("1,,x\n3,4,y\n"), "t.csv:1: column 2 is empty" + why);
  EXPECT_EQ(refused("1.5,n/a,0\n3,4,1\n"), "t.csv:1: column 2 is 'n/a'" + why);
  EXPECT_EQ(refused(",7\n3,8\n"), "t.csv:1: column 1 is empty" + why) << "the label is a number too";
  EXPECT_EQ(refused("x,1,\ny,3,4\n", "1"), "t.csv:1: column 3 is empty" + why);
  // Years and an unnamed column: a header, as the label says.
  EXPECT_EQ(parsed(",2019,class\n1,2,x\n", "class").names, (Texts{"", "2019"}));
  EXPECT_EQ(parsed(",a,class\n1,2,x\n").names, (Texts{"", "a"}));
}

TEST(Csv, ErrorsNameTheLine) {
  EXPECT_EQ(refused(""), "t.csv: no rows");
  EXPECT_EQ(refused("\n \n"), "t.csv: no rows");
  EXPECT_EQ(refused("a\n1\n"), "t.csv:1: one field, expected numbers and a class with commas between");
  EXPECT_EQ(refused("a,b,c\n"), "t.csv: no rows behind the header");
  EXPECT_EQ(refused("1,2,x\n3,4,y\n5,6\n"), "t.csv:3: 2 fields, the first line has 3");
  EXPECT_EQ(refused("a,b,c\n1,2,x\n\n3,four,y\n"), "t.csv:4: column 2 (b) is 'four', expected a number");
  EXPECT_EQ(refused("1,2,x\n3,,y\n"), "t.csv:2: column 2 is empty, expected a number");
  EXPECT_EQ(refused("1,2,x\n3,nan,y\n"), "t.csv:2: column 2 is 'nan', expected a number");
  EXPECT_EQ(refused("1,2,x\n3,1e99,y\n"), "t.csv:2: column 2 is '1e99', expected a number");
  EXPECT_EQ(refused("1,2,x\n3,0x1f,y\n"), "t.csv:2: column 2 is '0x1f', expected a number");
  EXPECT_EQ(refused("1,2,x\n3,4,\n"), "t.csv:2: the label is empty");
  EXPECT_HAS(refused("1,\"2,x\n3,4,y\n"), "t.csv:1: field beginning with '2,x?3,4,y?' has no closing quote");
  EXPECT_HAS(refused("1,2,x\n3,\"4\"5,y\n"), "t.csv:2: text '5' behind a quoted field");
  EXPECT_HAS(refused("1,2,x\n3," + std::string(100, 'z') + ",y\n"), "zzz...'");
}

TEST(Csv, MutationsNeverBreakIt) {
  for (const std::string& seed :
       {std::string("a,b,class\n1,2,cat\n3,4.5e3,dog\n"), std::string("1,\"2\",\"x \"\"y\"\"\"\r\n3,4,z\r\n")})
    for (uint64_t i = 0; i < 5000; ++i) {
      const Bytes bytes = fuzz::mutate(Bytes(seed.begin(), seed.end()), i);
      ASSERT_EQ(fuzz::check_csv(bytes.data(), bytes.size()), "") << "mutation " << i;
    }
}

struct CsvFolder : TemporaryFolder {
  DataOptions options(bool with_test = true) const {
    DataOptions o{.name = "csv"};
    o.file = at("train.csv");
    if (with_test) o.test_file = at("test.csv");
    return o;
  }
};

TEST(CsvData, ClassesAndNormalisation) {
  CsvFolder folder;
  folder.put("train.csv", "a,b,c\n1,5,10\n3,5,9\n5,5,10\n7,5,2\n");
  folder.put("test.csv", "a,b,c\n9,6,2\n");
  const Result<DataSplit> data = open_data(folder.options());
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->size(), 4);
  EXPECT_EQ(data->train->sample_shape(), Shape{2});
  EXPECT_EQ(data->train->class_names(), (Texts{"2", "9", "10"})) << "in the order of numbers";
  const std::array<int64_t, 4> all = {0, 1, 2, 3};
  const Batch batch = read_batch(*data->train, all);
  EXPECT_EQ(batch.labels.to_vector<int64_t>(), (std::vector<int64_t>{2, 1, 2, 0}));
  // Column a: mean 4, deviation sqrt((9 + 1 + 1 + 9) / 4); column b is constant.
  const double s = std::sqrt(5.0);
  EXPECT_EQ(batch.inputs.to_vector<float>(),
            (std::vector<float>{static_cast<float>(-3 / s), 0, static_cast<float>(-1 / s), 0, static_cast<float>(1 / s),
                                0, static_cast<float>(3 / s), 0}));
  const int64_t zero = 0;
  EXPECT_EQ(read_batch(*data->test, std::span(&zero, 1)).inputs.to_vector<float>(),
            (std::vector<float>{static_cast<float>(5 / s), 1}));
  EXPECT_EQ(data->test->label(0), 0);
  DataOptions raw = folder.options();
  raw.image.mean = {0}, raw.image.std = {1, 2};
  const Result<DataSplit> given = open_data(raw);
  EXPECT_EQ(read_batch(*given->train, all).inputs.to_vector<float>(),
            (std::vector<float>{1, 2.5, 3, 2.5, 5, 2.5, 7, 2.5}));
}

TEST(CsvData, WithoutATestFileAPartIsKept) {
  CsvFolder folder;
  std::string text = "a,b,class\n";
  for (int i = 0; i < 50; ++i) text += std::to_string(i) + ",0," + (i % 2 ? "odd" : "even") + "\n";
  folder.put("train.csv", text);
  DataOptions options = folder.options(false);
  options.image.mean = {0}, options.image.std = {1};
  const Result<DataSplit> data = open_data(options);
  ASSERT_TRUE(data.ok()) << data.status().message();
  EXPECT_EQ(data->train->size(), 40);
  EXPECT_EQ(data->test->size(), 10);
  std::vector<int64_t> seen(50);
  for (const DatasetPtr& part : {data->train, data->test})
    for (int64_t i = 0; i < part->size(); ++i) {
      const Batch one = read_batch(*part, std::span(&i, 1));
      const auto value = static_cast<int64_t>(one.inputs.to_vector<float>()[0]);
      ++seen[static_cast<size_t>(value)];
      EXPECT_EQ(one.labels.to_vector<int64_t>()[0], value % 2);
      EXPECT_EQ(part->class_names()[static_cast<size_t>(part->label(i))], value % 2 ? "odd" : "even");
    }
  EXPECT_EQ(seen, std::vector<int64_t>(50, 1));
  options.seed = 9;
  const Result<DataSplit> again = open_data(options);
  const std::array<int64_t, 3> first = {0, 1, 2};
  EXPECT_EQ(read_batch(*again->test, first).inputs.to_vector<float>(),
            read_batch(*data->test, first).inputs.to_vector<float>())
      << "whatever the seed";
  // Moments are those of the training part alone.
  options.image = {};
  const Result<DataSplit> normal = open_data(options);
  std::vector<int64_t> all(40);
  std::iota(all.begin(), all.end(), 0);
  const std::vector<float> values = read_batch(*normal->train, all).inputs.to_vector<float>();
  double sum = 0, squares = 0;
  for (size_t i = 0; i < values.size(); i += 2) sum += values[i], squares += double{values[i]} * values[i];
  EXPECT_NEAR(sum / 40, 0, 1e-6);
  EXPECT_NEAR(squares / 40, 1, 1e-6);
  options.test_share = 0.99;
  EXPECT_HAS(refusal(options, StatusCode::invalid_argument),
             "data.test_share 0.99 of 50 samples leaves none to train with");
}

TEST(CsvData, OneLineForWhatDoesNotFit) {
  CsvFolder folder;
  EXPECT_HAS(refusal({.name = "csv"}, StatusCode::not_found), "type --data.file FILE.csv");
  EXPECT_HAS(refusal(folder.options(), StatusCode::not_found), "train.csv: no such file");
  folder.put("train.csv", "1,2,a\n3,4,b\n");
  folder.put("test.csv", "1,2,3,a\n");
  EXPECT_HAS(refusal(folder.options()), "test.csv: 3 columns beside the label, the training file has 2");
  folder.put("test.csv", "1,2,a\n1,2,c\n");
  EXPECT_HAS(refusal(folder.options()), "test.csv:2: the class 'c' is not in the training file");
  std::string many;
  for (int i = 0; i < 1500; ++i) many += "1,2," + std::to_string(i) + ".5\n";
  folder.put("train.csv", many);
  EXPECT_HAS(refusal(folder.options()), "the label column has 1500 different values, at most 1000 classes are read");
  DataOptions options = folder.options();
  options.image.crop = 3;
  EXPECT_HAS(refusal(options, StatusCode::invalid_argument), "rows of a table are not images");
}

}  // namespace
}  // namespace sinew::nn
