// Small tables from names to values: initialisers, activations, losses.
#pragma once

#include <iterator>
#include <string>
#include <vector>

#include "core/check.h"

namespace sinew::nn {

// Table: a range of pairs (name, value).
template <class Table>
std::vector<std::string> names_of(const Table& table) {
  std::vector<std::string> names;
  names.reserve(std::size(table));
  for (const auto& [name, value] : table) names.emplace_back(name);
  return names;
}

// Throws Error "[what] 'name' is not one of a, b, c".
template <class Table>
const auto& entry_named(const Table& table, const std::string& wanted, const char* what) {
  std::string allowed;
  for (const auto& [name, value] : table) {
    if (wanted == name) return value;
    allowed += (allowed.empty() ? "" : ", ") + std::string(name);
  }
  SINEW_FAIL(what, "'", wanted, "' is not one of ", allowed);
}

}  // namespace sinew::nn
