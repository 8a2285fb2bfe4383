#include "dist/world.h"

#include <utility>

namespace sinew::dist {

Payload Payload::copy_of(ConstVecView vector) {
  Payload p = allocate(vector.bytes());
  if (vector.size) download(vector, p.data());
  return p;
}

Received fetch(World& world, Rank to, Head head, Payload body, Tag reply, Nanos timeout) {
  Request request(world);
  head.request = request.id();
  world.send(to, head, std::move(body));
  return world.receive({.tag = reply, .source = to, .request = request.id()}, timeout);
}

}  // namespace sinew::dist
