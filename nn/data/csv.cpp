#include "nn/data/csv.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <map>
#include <optional>
#include <string_view>

#include "nn/data/data_file.h"
#include "nn/data/f32_dataset.h"
#include "nn/data/subset.h"

namespace sinew::nn {
namespace {

// For a message: short and printable.
std::string shown(std::string_view text) {
  std::string out = "'";
  for (char c : text.substr(0, 40)) out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  return out + (text.size() > 40 ? "...'" : "'");
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kBlanks = " \t\r";
  const size_t begin = text.find_first_not_of(kBlanks);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kBlanks) - begin + 1);
}

template <class Number>
std::optional<Number> number_of(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// The rows of a file, one after the other.
class Rows {
 public:
  Rows(std::string_view text, const std::string& name) : text_(text), name_(name) {
    if (text_.starts_with("\xef\xbb\xbf")) at_ = 3;  // a byte order mark
  }

  // The fields of the next row that is not empty; false at the end.
  Result<bool> next(std::vector<std::string>& fields) {
    while (at_ < text_.size()) {
      line_ = next_line_;
      SINEW_RETURN_IF_ERROR(read_row(fields));
      if (fields.size() > 1 || !fields[0].empty()) return true;
    }
    return false;
  }
  int64_t line() const { return line_; }  // where the row begins
  template <class... Parts>
  Status bad(const Parts&... parts) const {
    return make_status(StatusCode::data_error, name_, ":", line_, ": ", parts...);
  }

 private:
  Status read_row(std::vector<std::string>& fields) {
    fields.clear();
    for (;;) {
      if (static_cast<int64_t>(fields.size()) >= kMaxCsvColumns) return bad("more than ", kMaxCsvColumns, " fields");
      const size_t begin = text_.find_first_not_of(" \t", at_);
      if (begin != std::string_view::npos && text_[begin] == '"') {
        at_ = begin + 1;
        SINEW_RETURN_IF_ERROR(read_quoted(fields.emplace_back()));
      } else {
        const size_t end = std::min(text_.find_first_of(",\n", at_), text_.size());
        fields.emplace_back(trimmed(text_.substr(at_, end - at_)));
        at_ = end;
      }
      if (at_ >= text_.size()) return Status::Ok();
      const char separator = text_[at_++];
      if (separator == '\n') ++next_line_;
      if (separator == '\n') return Status::Ok();
    }
  }

  // at_ is behind the first quote; afterwards at a comma, a line end or the end.
  Status read_quoted(std::string& field) {
    for (;;) {
      const size_t quote = text_.find('"', at_);
      if (quote == std::string_view::npos)
        return bad("field ", "beginning with ", shown(text_.substr(at_)), " has no closing quote");
      const std::string_view piece = text_.substr(at_, quote - at_);
      next_line_ += std::ranges::count(piece, '\n');
      field += piece;
      at_ = quote + 1;
      if (at_ >= text_.size() || text_[at_] != '"') break;
      field += '"';
      ++at_;
    }
    const size_t end = std::min(text_.find_first_of(",\n", at_), text_.size());
    if (!trimmed(text_.substr(at_, end - at_)).empty())
      return bad("text ", shown(text_.substr(at_, end - at_)), " behind a quoted field");
    at_ = end;
    return Status::Ok();
  }

  std::string_view text_;
  const std::string& name_;
  size_t at_ = 0;
  int64_t line_ = 1, next_line_ = 1;
};

// "column 3", "column 3 (height)".
std::string column_text(size_t index, const std::vector<std::string>& names, size_t name) {
  std::string text = "column " + std::to_string(index + 1);
  if (!names.empty()) text += " (" + shown(names[name]).substr(1);
  if (!names.empty()) text.back() = ')';
  return text;
}

// Which column holds the label, by its number or its name in the first row.
Result<size_t> label_column(const std::vector<std::string>& first, const std::string& label, const std::string& name) {
  if (label.empty()) return first.size() - 1;
  const auto number = number_of<int64_t>(label);
  if (number && *number >= 1 && *number <= static_cast<int64_t>(first.size())) return static_cast<size_t>(*number - 1);
  const auto named = std::ranges::find(first, label);
  if (named != first.end()) return static_cast<size_t>(named - first.begin());
  std::string columns;
  for (const std::string& column : first)
    if (columns.size() < 300) columns += (columns.empty() ? "" : ", ") + shown(column);
  return make_status(StatusCode::invalid_argument, "data.label '", label, "': ", name,
                     " has no such column; its first line is ", columns);
}

}  // namespace

Result<CsvTable> parse_csv(const std::vector<uint8_t>& bytes, const std::string& label, const std::string& name) {
  Rows rows(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()), name);
  std::vector<std::string> fields;
  Result<bool> more = rows.next(fields);
  if (!more.ok()) return more.status();
  if (!*more) return bad_data(name, "no rows");
  const size_t width = fields.size();
  if (width < 2) return rows.bad("one field, expected numbers and a class with commas between");
  Result<size_t> found = label_column(fields, label, name);
  if (!found.ok()) return found.status();
  const size_t at = *found;
  CsvTable table;
  table.columns = static_cast<int64_t>(width) - 1;
  const bool named = !label.empty() && fields[at] == label && !number_of<int64_t>(label);
  const auto is_number = [](const std::string& field) { return number_of<double>(field).has_value(); };
  size_t other = 0;
  while (other < width && (other == at || is_number(fields[other]))) ++other;
  // Taken as a header, a broken row would be dropped without a word.
  if (!named && other < width && std::ranges::any_of(fields, is_number))
    return rows.bad("column ", other + 1, " is ", fields[other].empty() ? "empty" : shown(fields[other]),
                    ", others are numbers: not a row, and a header only if --data.label NAME names a column of it");
  if (named || other < width) {
    for (size_t i = 0; i < width; ++i)
      if (i != at) table.names.push_back(fields[i]);
    more = rows.next(fields);
  }
  for (; more.ok() && *more; more = rows.next(fields)) {
    if (fields.size() != width) return rows.bad(fields.size(), " fields, the first line has ", width);
    for (size_t i = 0; i < width; ++i) {
      if (i == at) continue;
      const auto value = number_of<double>(fields[i]);
      if (!value || !std::isfinite(static_cast<float>(*value)))
        return rows.bad(column_text(i, table.names, i - (i > at)), " is ",
                        fields[i].empty() ? "empty" : shown(fields[i]), ", expected a number");
      table.values.push_back(static_cast<float>(*value));
    }
    if (fields[at].empty()) return rows.bad("the label is empty");
    table.labels.push_back(fields[at]);
    table.line_of.push_back(rows.line());
  }
  if (!more.ok()) return more.status();
  if (table.labels.empty()) return bad_data(name, "no rows behind the header");
  return table;
}

namespace {

struct ByNumberOrText {
  bool numbers;
  bool operator()(const std::string& a, const std::string& b) const {
    return numbers ? *number_of<int64_t>(a) < *number_of<int64_t>(b) : a < b;
  }
};

F32Samples samples_of(CsvTable table, std::vector<std::string> class_names, std::vector<int32_t> labels) {
  return {.name = "csv",
          .sample_shape = {table.columns},
          .classes = static_cast<int64_t>(class_names.size()),
          .class_names = std::move(class_names),
          .values = std::move(table.values),
          .labels = std::move(labels),
          .targets = {}};
}

Result<CsvTable> read_csv(const std::string& path, const std::string& label) {
  Result<std::vector<uint8_t>> bytes = read_data_file(path);
  if (!bytes.ok()) return bytes.status();
  bytes = unpacked(std::move(*bytes), path);
  if (!bytes.ok()) return bytes.status();
  return parse_csv(*bytes, label, path);
}

// `only` of the samples, for the moments of the training part.
F32Samples part_of(const F32Samples& all, const std::vector<int64_t>& only) {
  F32Samples part{.name = all.name,
                  .sample_shape = all.sample_shape,
                  .classes = all.classes,
                  .class_names = {},
                  .values = {},
                  .labels = {},
                  .targets = {}};
  const int64_t columns = all.sample_shape.numel();
  for (int64_t i : only)
    part.values.insert(part.values.end(), all.values.begin() + i * columns, all.values.begin() + (i + 1) * columns);
  return part;
}

void normalise_by(F32Samples& samples, const ColumnMoments& moments, const ImageOptions& o) {
  normalise(samples, o.mean.empty() ? moments.mean : o.mean, o.std.empty() ? moments.std : o.std);
}

}  // namespace

Result<DataSplit> open_csv(const DataOptions& o) {
  if (o.file.empty())
    return make_status(StatusCode::not_found,
                       "data set csv needs a file: type --data.file FILE.csv (and --data.test_file)");
  if (o.image.augment != Augment::none || o.image.crop > 0)
    return make_status(StatusCode::invalid_argument, "data.augment, data.crop: rows of a table are not images");
  Result<CsvTable> table = read_csv(o.file, o.label);
  if (!table.ok()) return table.status();
  SINEW_RETURN_IF_ERROR(check_normalisation(o.image, table->columns));

  const bool whole =
      std::ranges::all_of(table->labels, [](const std::string& l) { return number_of<int64_t>(l).has_value(); });
  std::map<std::string, int32_t, ByNumberOrText> number(ByNumberOrText{whole});
  for (const std::string& label : table->labels) number.emplace(label, 0);
  if (static_cast<int64_t>(number.size()) > kMaxCsvClasses)
    return bad_data(o.file, "the label column has ", number.size(), " different values, at most ", kMaxCsvClasses,
                    " classes are read; another column is chosen by --data.label NAME");
  std::vector<std::string> names;
  for (auto& [label, value] : number) value = static_cast<int32_t>(names.size()), names.push_back(label);
  std::vector<int32_t> labels;
  for (const std::string& label : table->labels) labels.push_back(number.at(label));
  const int64_t columns = table->columns;
  F32Samples train = samples_of(std::move(*table), names, std::move(labels));

  if (o.test_file.empty()) {
    Result<TestSplit> split = split_off_test(train.size(), o.test_share);
    if (!split.ok()) return split.status();
    normalise_by(train, column_moments(part_of(train, split->train)), o.image);
    const auto all = std::make_shared<F32Dataset>(std::move(train));
    return DataSplit{std::make_shared<Subset>(all, std::move(split->train)),
                     std::make_shared<Subset>(all, std::move(split->test))};
  }
  table = read_csv(o.test_file, o.label);
  if (!table.ok()) return table.status();
  if (table->columns != columns)
    return bad_data(o.test_file, table->columns, " columns beside the label, the training file has ", columns);
  std::vector<int32_t> test_labels;
  for (size_t i = 0; i < table->labels.size(); ++i) {
    const bool comparable = !whole || number_of<int64_t>(table->labels[i]);
    const auto known = comparable ? number.find(table->labels[i]) : number.end();
    if (known == number.end())
      return make_status(StatusCode::data_error, o.test_file, ":", table->line_of[i], ": the class ",
                         shown(table->labels[i]), " is not in the training file");
    test_labels.push_back(known->second);
  }
  F32Samples test = samples_of(std::move(*table), names, std::move(test_labels));
  const ColumnMoments moments = column_moments(train);
  normalise_by(train, moments, o.image);
  normalise_by(test, moments, o.image);
  return DataSplit{std::make_shared<F32Dataset>(std::move(train)), std::make_shared<F32Dataset>(std::move(test))};
}

}  // namespace sinew::nn
