// The header of every active message, and the proof that its sender belongs to the job.
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "dist/world.h"

namespace sinew::dist {

// First 16 bytes of HMAC-SHA256(secret, "token", source, its incarnation, destination, its incarnation).
// Binding the destination's incarnation keeps what was meant for a dead process away from its successor.
using Token = std::array<uint8_t, 16>;
Token make_token(const std::string& secret, Rank source, uint32_t source_incarnation, Rank destination,
                 uint32_t destination_incarnation);

struct WireHeader {
  Token token{};
  Head head;
  uint64_t link_sequence = 0;  // 0, 1, 2 ... on one connection: a rendezvous may be overtaken by what was sent after it
  uint32_t connection = 0;     // numbers the sender's connections to this receiver
  uint32_t reserved = 0;
};
static_assert(sizeof(WireHeader) == 96 && std::is_trivially_copyable_v<WireHeader>);

// head.arg[0] of Tag::control.
enum class Control : int64_t {
  hello = 1,  // always the first message of a connection; the body is the sender's worker address; arg[1]: the last of
              // the receiver's connections that broke at the sender, or 0
  heartbeat = 2,
  goodbye = 3,
};

// What a node publishes in the store under "address/<rank>", sealed with the secret.
struct AddressRecord {
  uint32_t incarnation = 0;
  std::string address;
};
std::string seal_address(const std::string& secret, Rank rank, const AddressRecord& record);
// permission_denied when the record was not sealed with this secret.
Result<AddressRecord> open_address(const std::string& secret, Rank rank, const std::string& text);
std::string address_key(Rank rank);
std::string gone_key(Rank rank);

}  // namespace sinew::dist
