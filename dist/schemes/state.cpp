#include "dist/schemes/state.h"

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
