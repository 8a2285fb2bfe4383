#include "dist/schemes/state.h"

#include <algorithm>
#include <charconv>
#include <vector>

namespace sinew::dist {

Status load_vector(const SchemeState& state, const std::string& name, Vec& into) {
  auto found = state.vectors.find(name);
  if (found == state.vectors.end() || found->second.size() != into.size() || found->second.dtype() != into.dtype())
    return make_status(StatusCode::data_error, "the saved scheme does not fit: a '", name, "' of ", into.size(), " ",
                       to_string(into.dtype()), " is expected");
  std::vector<char> host(found->second.view().bytes());
  download(found->second.view(), host.data());
  upload(host.data(), into.mutable_view());
  return Status::Ok();
}

Result<int64_t> load_index(const std::string& name, const std::string& prefix, int64_t limit) {
  int64_t index = -1;
  const char* const end = name.data() + name.size();
  const auto read = std::from_chars(name.data() + std::min(prefix.size(), name.size()), end, index);
  if (read.ec != std::errc() || read.ptr != end || index < 0 || index >= limit)
    return make_status(StatusCode::data_error, "the saved scheme does not fit: '", name, "'; expected is '", prefix,
                       "' and a number below ", limit);
  return index;
}

Status load_numbers(const SchemeState& state, std::initializer_list<std::pair<const char*, int64_t*>> numbers) {
  for (auto [name, field] : numbers) {
    auto found = state.numbers.find(name);
    if (found == state.numbers.end())
      return make_status(StatusCode::data_error, "the saved scheme has no '", name, "'");
    *field = found->second;
  }
  return Status::Ok();
}

}  // namespace sinew::dist
