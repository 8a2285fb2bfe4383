#include "dist/ucx/wire.h"

#include <cstring>

#include "dist/store_auth.h"

namespace sinew::dist {

Token make_token(const std::string& secret, Rank source, uint32_t source_incarnation, Rank destination,
                 uint32_t destination_incarnation) {
  Digest digest = hmac_sha256(secret, detail::concat("token ", source, " ", source_incarnation, " ", destination, " ",
                                                     destination_incarnation));
  Token token;
  std::memcpy(token.data(), digest.data(), token.size());
  return token;
}

namespace {
Digest address_seal(const std::string& secret, Rank rank, const AddressRecord& record) {
  return hmac_sha256(secret, detail::concat("address ", rank, " ", record.incarnation, " ") + record.address);
}
}  // namespace

std::string seal_address(const std::string& secret, Rank rank, const AddressRecord& record) {
  Digest seal = address_seal(secret, rank, record);
  std::string text(seal.begin(), seal.end());
  text.append(reinterpret_cast<const char*>(&record.incarnation), sizeof record.incarnation);
  return text + record.address;
}

Result<AddressRecord> open_address(const std::string& secret, Rank rank, const std::string& text) {
  Digest seal;
  AddressRecord record;
  if (text.size() <= seal.size() + sizeof record.incarnation)
    return make_status(StatusCode::data_error, "the address of rank ", rank, " in the store is too short");
  std::memcpy(&record.incarnation, text.data() + seal.size(), sizeof record.incarnation);
  record.address = text.substr(seal.size() + sizeof record.incarnation);
  seal = address_seal(secret, rank, record);
  if (!equal_in_constant_time(seal.data(), text.data(), seal.size()))
    return make_status(StatusCode::permission_denied, "rank ", rank,
                       " published an address made with another secret: all processes of a job need the same "
                       "SINEW_SECRET");
  return record;
}

std::string address_key(Rank rank) { return "address/" + std::to_string(rank); }
std::string gone_key(Rank rank) { return "gone/" + std::to_string(rank); }

}  // namespace sinew::dist
