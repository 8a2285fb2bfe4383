// What all stores have in common: limits and error lines. Internal to dist/store*.cpp.
#pragma once

#include "dist/store.h"

namespace sinew::dist {

inline constexpr size_t kMaxStoreKey = 256;
inline constexpr size_t kMaxStoreValue = 64 * 1024;

// data_error when the text is not the decimal number that add() writes.
Result<int64_t> parse_store_counter(const std::string& key, const std::string& text);
// invalid_argument when key or value are outside the limits.
Status check_store_entry(const std::string& key, size_t value_size);
Status missing_store_key(const std::string& key);
Status late_store_key(const std::string& key, Nanos timeout);

}  // namespace sinew::dist
