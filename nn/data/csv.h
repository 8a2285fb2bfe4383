// Users' own tables: CSV files (RFC 4180) with numbers in every column but one, which holds the class, plain or packed
// with gzip. A file for training and one for tests, or one of which a fixed part is kept for tests.
//
//   - Fields are separated by commas; a quoted field may hold commas, doubled quotes and line ends. Empty lines are
//     skipped, blanks around a field are not part of it.
//   - The first line is a header when a field that should be a number is none, or when it names the label column.
//   - The label column is the last one, or the one that `label` names, or its number, counted from 1.
//   - Classes are the different labels of the training file, in the order of their numbers when all are whole
//     numbers, else of their text. More than kMaxCsvClasses are taken for a mistake.
//   - Each column is normalised with its mean and deviation over the training part, unless the options give others.
//
// Files are hostile input: every defect is one line "FILE:LINE: ...".
//
// Thread safety: free functions.
#pragma once

#include "nn/data/dataset.h"

namespace sinew::nn {

inline constexpr int64_t kMaxCsvClasses = 1000, kMaxCsvColumns = 1 << 16;

struct CsvTable {
  int64_t columns = 0;              // without the label's
  std::vector<std::string> names;   // of these columns; empty without a header
  std::vector<float> values;        // row after row
  std::vector<std::string> labels;  // one for each row
  std::vector<int64_t> line_of;     // where each row begins
};

// A whole file's bytes; `name` is for messages. Errors: data_error, invalid_argument for a label column that is not
// there.
Result<CsvTable> parse_csv(const std::vector<uint8_t>& bytes, const std::string& label, const std::string& name);

// options.file, test_file, test_share, label, image.mean, image.std.
Result<DataSplit> open_csv(const DataOptions& options);

}  // namespace sinew::nn
