#include "dist/center.h"

#include <algorithm>

namespace sinew::dist {

CenterServer::CenterServer(World& world, CenterSetup setup, const std::vector<int>& parts)
    : world_(world), setup_(std::move(setup)) {
  for (int part : parts) parts_.try_emplace(part, world_, setup_, part);
}

CenterServer::~CenterServer() {
  if (!listening_) return;
  for (Tag tag :
       {Tag::center_join, Tag::center_fetch, Tag::center_add, Tag::center_leave, Tag::center_score, Tag::center_seed})
    world_.on(tag, {});
}

void CenterServer::refuse(const Message& m, Tag tag, const std::array<int64_t, 4>& arguments) {
  Head head{.tag = tag};
  head.is_reply = 1;
  head.request = m.head.request;
  std::copy(arguments.begin(), arguments.end(), head.arg);
  world_.send(m.head.source, head);
}

void CenterServer::listen() {
  if (std::exchange(listening_, true)) return;
  // A message names its part, or a shard of it.
  const auto on = [this](Tag tag, void (CenterPart::*handle)(const Message&), int argument, bool shard) {
    world_.on(tag, [this, tag, handle, argument, shard](const Message& m) {
      int64_t part = argument < 0 ? 0 : m.head.arg[argument];
      if (shard) {
        if (part < 0 || part >= setup_.shards.count()) return;
        part = setup_.shards.part_of(static_cast<int>(part));
      }
      auto found = parts_.find(static_cast<int>(std::clamp<int64_t>(part, -1, setup_.shards.parts)));
      if (found != parts_.end()) return (found->second.*handle)(unpacked(m, setup_.dtype));
      // Of a part that another node has, or that this one does not know yet that it has to take over.
      if (tag == Tag::center_join) refuse(m, Tag::center_ack, {0, static_cast<int64_t>(setup_.fingerprint)});
      if (tag == Tag::center_leave) refuse(m, Tag::center_ack, {kJoinFirst});
      if (tag == Tag::center_fetch) refuse(m, Tag::center_part, {kJoinFirst, part});
    });
  };
  on(Tag::center_join, &CenterPart::on_join, 2, false);
  on(Tag::center_fetch, &CenterPart::on_fetch, 3, false);
  on(Tag::center_add, &CenterPart::on_add, 0, true);
  on(Tag::center_leave, &CenterPart::on_leave, 3, false);
  on(Tag::center_score, &CenterPart::on_score, -1, false);
  on(Tag::center_seed, &CenterPart::on_seed, 0, true);
}

Status CenterServer::start(ConstVecView initial) {
  for (auto& [part, served] : parts_) {
    if (world_.incarnation() > 0)
      served.begin_unknown(false);
    else
      served.reset(initial);
  }
  listen();
  return Status::Ok();
}

void CenterServer::take_over(int part) {
  world_.publish([&] {
    auto [at, is_new] = parts_.try_emplace(part, world_, setup_, part);
    if (is_new) at->second.begin_unknown(true);
  });
  listen();
}

Result<bool> CenterServer::serve(Nanos slice) {
  return wait_for_workers(world_, setup_.workers, slice, [this](Rank r) {
    bool left = true;
    world_.publish([&] {
      for (const auto& [part, served] : parts_) left = left && served.has_left(r, only_members_);
    });
    return left || r == world_.rank();  // a worker that serves, too, and is done itself
  });
}

bool CenterServer::serves(int part) {
  bool found = false;
  world_.publish([&] { found = parts_.count(part) > 0; });
  return found;
}

bool CenterServer::expects_workers() {
  bool some = false;
  world_.publish([&] {
    for (const auto& [part, served] : parts_) some = some || served.expects_workers();
  });
  return some;
}

std::string CenterServer::origin(int part) {
  std::string text;
  world_.publish([&] {
    auto found = parts_.find(part);
    if (found != parts_.end() && found->second.known()) text = found->second.origin();
  });
  return text;
}

void CenterServer::snapshot(VecView out) {
  world_.publish([&] {
    for (auto& [part, served] : parts_) served.snapshot(out);
  });
}

int64_t CenterServer::version() {
  int64_t sum = 0;
  world_.publish([&] {
    for (const auto& [part, served] : parts_) sum += served.version();
  });
  return sum;
}

int64_t CenterServer::refused() {
  int64_t sum = 0;
  world_.publish([&] {
    for (const auto& [part, served] : parts_) sum += served.refused();
  });
  return sum;
}

bool CenterServer::has_result() {
  bool all = true;
  world_.publish([&] {
    for (const auto& [part, served] : parts_) all = all && served.known();
  });
  return all;
}

}  // namespace sinew::dist
