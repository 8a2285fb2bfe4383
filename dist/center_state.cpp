// What a node that serves parts of the center saves, and how it goes on from that.
#include <bit>
#include <string>

#include "dist/center.h"

namespace sinew::dist {

void CenterPart::save(SchemeState& state) const {
  const std::string part = std::to_string(part_) + ".";
  for (int s = first(); s < end(); ++s) {
    const Shard& shard = at(s);
    const std::string name = "." + std::to_string(s);
    if (known_) state.vectors["center" + name] = Vec::copy_of(shard.center.view(setup_.dtype));
    if (shard.velocity.defined()) state.vectors["velocity" + name] = shard.velocity.clone();
    if (shard.unsent.defined()) state.vectors["unsent" + name] = shard.unsent.clone();
    if (!shard.mean.empty()) state.vectors["mean" + name] = Vec::copy_of(ConstVecView(shard.mean));
    state.numbers["additions" + name] = shard.additions;
  }
  state.numbers[part + "known"] = known_;
  state.numbers[part + "taken_over"] = taken_over_;
  state.numbers[part + "version"] = version_;
  state.numbers[part + "refused"] = refused_;
  for (Rank r = 0; r < setup_.workers; ++r) {
    const std::string rank = std::to_string(r);
    state.numbers[part + "lives." + rank] = lives_[r];
    state.numbers[part + "seen." + rank] = seen_[r];
    state.numbers[part + "left." + rank] = left_[r];
    state.numbers[part + "score." + rank] = std::bit_cast<int64_t>(scores_[r]);
  }
  for (const auto& [key, b] : books_) {
    const std::string name = std::to_string(key.first) + "." + std::to_string(key.second);
    std::vector<int64_t> applied;
    for (auto [exchange, shard] : b.applied) applied.insert(applied.end(), {exchange, shard});
    state.numbers[part + "lowest." + name] = b.lowest;
    state.vectors[part + "applied." + name] = Vec::copy_of(ConstVecView(applied));
  }
  for (const auto& [rank, told] : told_)
    for (size_t i = 0; i < told.size(); ++i)
      if (told[i].size() > 0)
        state.vectors[part + "told." + std::to_string(rank) + "." + std::to_string(i)] =
            Vec::copy_of(told[i].view(setup_.dtype));
}

Status CenterPart::load(const SchemeState& state) {
  const std::string part = std::to_string(part_) + ".";
  auto number = [&](const std::string& name) {
    auto found = state.numbers.find(name);
    return found == state.numbers.end() ? int64_t(0) : found->second;
  };
  begin_unknown(number(part + "taken_over") != 0);
  known_ = known_ || number(part + "known") != 0;
  version_ = number(part + "version");
  refused_ = number(part + "refused");
  books_.clear();
  told_.clear();
  for (Rank r = 0; r < setup_.workers; ++r) {
    const std::string rank = std::to_string(r);
    lives_[r] = number(part + "lives." + rank);
    seen_[r] = number(part + "seen." + rank);
    left_[r] = static_cast<char>(number(part + "left." + rank));
    scores_[r] = std::bit_cast<double>(number(part + "score." + rank));
    for (int64_t life = 1; life <= lives_[r]; ++life) {
      const std::string name = rank + "." + std::to_string(life);
      auto applied = state.vectors.find(part + "applied." + name);
      if (applied == state.vectors.end()) continue;
      Book& b = books_[{r, life}];
      b.lowest = number(part + "lowest." + name);
      const auto* v = static_cast<const int64_t*>(applied->second.view().data);
      for (int64_t i = 0; i + 1 < applied->second.size(); i += 2) {
        if (!owns(v[i + 1]))
          return make_status(StatusCode::data_error, "saved '", applied->first, "' names shard ", v[i + 1]);
        b.applied.insert({v[i], v[i + 1]});
      }
    }
  }
  auto fits = [&](const std::string& name, int s, DType dtype) {
    auto found = state.vectors.find(name);
    return found != state.vectors.end() && found->second.size() == setup_.shards.length(s) &&
                   found->second.dtype() == dtype
               ? &found->second
               : nullptr;
  };
  for (int s = first(); s < end(); ++s) {
    const std::string name = "." + std::to_string(s);
    for (Rank r = 0; r < setup_.workers && !known_; ++r) {
      const std::string i = std::to_string(s - first());
      if (const Vec* told = fits(part + "told." + std::to_string(r) + "." + i, s, setup_.dtype)) {
        told_[r].resize(shards_.size());
        told_[r][static_cast<size_t>(s - first())] = Payload::copy_of(told->view());
      }
    }
    if (!known_) continue;
    const Vec* center = fits("center" + name, s, setup_.dtype);
    if (!center)
      return make_status(StatusCode::data_error, "the saved center does not fit: ", setup_.shards.size, " ",
                         to_string(setup_.dtype), " are expected");
    Shard& shard = at(s);
    shard = make_shard(center->view());
    shard.additions = number("additions" + name);
    const Vec* velocity = fits("velocity" + name, s, setup_.dtype);
    const Vec* mean = fits("mean" + name, s, DType::f64);
    const Vec* unsent = fits("unsent" + name, s, setup_.dtype);
    if ((shard.velocity.defined() && !velocity) || (!shard.mean.empty() && !mean) ||
        (shard.unsent.defined() && !unsent))
      return make_status(StatusCode::data_error, "the saved center does not fit: it has another rule");
    if (velocity) shard.velocity = velocity->clone();
    if (unsent) shard.unsent = unsent->clone();
    if (mean) shard.mean = to_doubles(mean->view());
  }
  return Status::Ok();
}

SchemeState CenterServer::save() {
  SchemeState state;
  world_.publish([&] {
    for (auto& [part, served] : parts_) {
      state.numbers["serves." + std::to_string(part)] = 1;
      served.save(state);
    }
  });
  return state;
}

Status CenterServer::load(const SchemeState& state) {
  parts_.clear();
  for (int part = 0; part < setup_.shards.parts; ++part) {
    if (!state.numbers.count("serves." + std::to_string(part))) continue;
    SINEW_RETURN_IF_ERROR(parts_.try_emplace(part, world_, setup_, part).first->second.load(state));
  }
  if (parts_.empty())
    return make_status(StatusCode::data_error, "the saved center does not fit: it serves none of ", setup_.shards.parts,
                       " parts");
  listen();
  return Status::Ok();
}

}  // namespace sinew::dist
