#include "dist/store_auth.h"

#include <sys/random.h>

#include <cerrno>

#include "core/check.h"

#ifdef SINEW_HAVE_UCX
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#endif

namespace sinew::dist {

#ifdef SINEW_HAVE_UCX
Digest hmac_sha256(const std::string& secret, const std::string& text) {
  Digest digest{};
  unsigned size = 0;
  const unsigned char* done =
      HMAC(EVP_sha256(), secret.data(), static_cast<int>(secret.size()),
           reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data(), &size);
  SINEW_CHECK(done && size == digest.size(), "hmac_sha256", "libcrypto failed");
  return digest;
}

bool equal_in_constant_time(const void* a, const void* b, size_t size) { return CRYPTO_memcmp(a, b, size) == 0; }
#endif

std::string random_bytes(size_t size) {
  std::string bytes(size, '\0');
  size_t done = 0;
  while (done < size) {
    ssize_t n = ::getrandom(bytes.data() + done, size - done, 0);
    if (n < 0 && errno == EINTR) continue;
    SINEW_CHECK(n > 0, "random_bytes", "getrandom failed");
    done += static_cast<size_t>(n);
  }
  return bytes;
}

std::string to_hex(const std::string& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (unsigned char c : bytes) hex += {kDigits[c >> 4], kDigits[c & 15]};
  return hex;
}

}  // namespace sinew::dist
