#include "dist/world.h"

#include <cstring>
#include <utility>

namespace sinew::dist {

Payload Payload::copy_of(ConstVecView vector) {
  Payload p = allocate(vector.bytes());
  if (vector.size) download(vector, p.data());
  return p;
}

Payload Payload::clone(const Payload& other) {
  Payload p = allocate(other.size());
  std::memcpy(p.data(), other.data(), other.size());
  return p;
}

Received::What World::receive_each(const Match& match, Nanos timeout, const Taker& take) {
  for (;;) {
    const Received received = receive(match, timeout);
    if (!received.ok() || take(received.message)) return received.what;
  }
}

Received fetch(World& world, Rank to, Head head, Payload body, Tag reply, Nanos timeout) {
  Request request(world);
  head.request = request.id();
  world.send(to, head, std::move(body));
  return world.receive({.tag = reply, .source = to, .request = request.id()}, timeout);
}

}  // namespace sinew::dist
