// What the job's secret proves: HMAC-SHA256 and a comparison that takes the same time for any input.
// Internal to dist; only in builds with libcrypto (SINEW_HAVE_UCX).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace sinew::dist {

using Digest = std::array<uint8_t, 32>;

Digest hmac_sha256(const std::string& secret, const std::string& text);
bool equal_in_constant_time(const void* a, const void* b, size_t size);
// `size` bytes from the kernel's generator: secrets and challenges, nothing that decides a result.
std::string random_bytes(size_t size);
std::string to_hex(const std::string& bytes);

}  // namespace sinew::dist
