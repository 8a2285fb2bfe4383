#include "dist/center.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>

#include "dist/rules.h"

namespace sinew::dist {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

}  // namespace

CenterServer::CenterServer(World& world, int workers, Shards shards, DType dtype, uint64_t fingerprint, CenterRule rule,
                           Packing packing)
    : world_(world),
      workers_(workers),
      shards_(shards),
      dtype_(dtype),
      fingerprint_(fingerprint),
      rule_(rule),
      packing_(packing),
      scores_(workers, kNone),
      lives_(workers),
      left_(workers) {}

CenterServer::~CenterServer() {
  if (!listening_) return;
  for (Tag tag :
       {Tag::center_join, Tag::center_fetch, Tag::center_add, Tag::center_leave, Tag::center_score, Tag::center_seed})
    world_.on(tag, {});
}

void CenterServer::listen() {
  listening_ = true;
  world_.on(Tag::center_join, [this](const Message& m) { on_join(m); });
  world_.on(Tag::center_fetch, [this](const Message& m) { on_fetch(m); });
  world_.on(Tag::center_add, [this](const Message& m) { on_add(unpacked(m, dtype_)); });
  world_.on(Tag::center_leave, [this](const Message& m) { on_leave(m); });
  world_.on(Tag::center_score, [this](const Message& m) { on_score(m); });
  world_.on(Tag::center_seed, [this](const Message& m) { on_seed(m); });
}

void CenterServer::reset(ConstVecView initial) {
  SINEW_CHECK(initial.size == shards_.size && initial.dtype == dtype_, "center", "initial vector of ", initial.size,
              " ", to_string(initial.dtype), ", expected ", shards_.size, " ", to_string(dtype_));
  center_.clear(), velocity_.clear(), unsent_.clear(), mean_.clear();
  for (int s = 0; s < shards_.count(); ++s) {
    const ConstVecView part = initial.slice(shards_.begin(s), shards_.length(s));
    center_.push_back(Payload::copy_of(part));
    if (packing_ != Packing::none) unsent_.push_back(Vec::zeros(part.size, dtype_));
    if (rule_.momentum != 0) velocity_.push_back(Vec::zeros(part.size, dtype_));
    if (rule_.average != CenterRule::Average::none) mean_.push_back(to_doubles(part));
  }
  look_ahead_.assign(center_.size(), {});
  additions_.assign(center_.size(), 0);
  unseeded_.assign(center_.size(), 0);
}

Status CenterServer::start(ConstVecView initial) {
  reset(initial);
  unseeded_.assign(center_.size(), world_.incarnation() > 0);
  listen();
  return Status::Ok();
}

Result<bool> CenterServer::serve(Nanos slice) {
  return wait_for_workers(world_, workers_, slice, [this](Rank r) {
    bool left = r == world_.rank();  // a worker that took the center over, and is done itself
    world_.publish([&] { left = left || left_[r] || (only_members_ && lives_[r] == 0); });
    return left;
  });
}

void CenterServer::snapshot(VecView out) {
  world_.publish([&] {
    for (int s = 0; s < shards_.count(); ++s)
      upload(part(s, Wanted::measured).data(), out.slice(shards_.begin(s), shards_.length(s)));
  });
}

int64_t CenterServer::version() {
  int64_t v = 0;
  world_.publish([&] { v = version_; });
  return v;
}

int64_t CenterServer::refused() {
  int64_t n = 0;
  world_.publish([&] { n = refused_; });
  return n;
}

bool CenterServer::seeded() const {
  return std::none_of(unseeded_.begin(), unseeded_.end(), [](char unseeded) { return unseeded; });
}

bool CenterServer::has_enough() const {
  int count = 0;
  for (Rank r = 0; r < workers_ && required_ > 0; ++r)
    count += lives_[r] > 0 || (r != world_.rank() && world_.peer(r) == PeerState::left);
  return count >= required_;
}

bool CenterServer::has_result() {
  bool has = false;
  world_.publish([&] { has = seeded(); });
  return has;
}

void CenterServer::reply(const Message& to, Tag tag, const Arguments& arguments, Payload body) {
  Head head{.tag = tag};
  std::copy(arguments.begin(), arguments.end(), head.arg);
  head.is_reply = 1;
  head.request = to.head.request;
  send_packed(world_, to.head.source, head, body, tag == Tag::center_part ? packing_ : Packing::none, dtype_);
}

CenterServer::Book* CenterServer::book(const Message& m, int64_t life, int64_t lowest) {
  auto found = books_.find({m.head.source, life});
  if (found == books_.end()) return nullptr;  // of a former life, or never joined
  Book& b = found->second;
  if (lowest > b.lowest) {
    b.lowest = lowest;
    b.applied.erase(b.applied.begin(), b.applied.lower_bound({lowest, 0}));
  }
  return &b;
}

std::vector<uint64_t> CenterServer::masks(const Book& book) const {
  std::vector<uint64_t> masks(center_.size());
  for (auto [exchange, shard] : book.applied)
    if (exchange - book.lowest < kMaskBits) masks[shard] |= uint64_t(1) << (exchange - book.lowest);
  return masks;
}

void CenterServer::on_join(const Message& m) {
  const Rank r = m.head.source;
  if (r < 0 || r >= workers_) return;
  int64_t life = m.head.arg[1];
  if (static_cast<uint64_t>(m.head.arg[0]) == fingerprint_ && !books_.count({r, life})) {
    life = ++lives_[r];
    books_[{r, life}];
    left_[r] = 0;
    scores_[r] = kNone;
  }
  reply(m, Tag::center_ack, {life, static_cast<int64_t>(fingerprint_), !seeded()}, {});
}

void CenterServer::on_seed(const Message& m) {
  const int64_t s = m.head.arg[0];
  if (s < 0 || s >= shards_.count() || !unseeded_[s] || !books_.count({m.head.source, m.head.arg[1]})) return;
  if (m.body.size() > 0) {
    if (m.body.size() != center_[s].size()) return;
    const ConstVecView part = m.body.view(dtype_);
    if (!in_parts(part.size, [&](int64_t at, int64_t n) { return all_finite(part.slice(at, n)); })) return;
    center_[s] = m.body;
    if (!mean_.empty()) mean_[s] = to_doubles(part);
  }
  unseeded_[s] = 0;
}

// What a worker is sent, or measured on.
Payload CenterServer::part(int shard, Wanted wanted) {
  if (wanted == Wanted::measured && !mean_.empty()) {
    if (dtype_ == DType::f64) return Payload::copy_of(ConstVecView(mean_[shard]));
    return Payload::copy_of(ConstVecView(std::vector<float>(mean_[shard].begin(), mean_[shard].end())));
  }
  if (wanted == Wanted::measured || velocity_.empty()) return center_[shard];
  if (look_ahead_[shard].size() == 0) {
    look_ahead_[shard] = Payload::copy_of(center_[shard].view(dtype_));
    const VecView y = look_ahead_[shard].mutable_view(dtype_);
    in_parts(y.size, [&](int64_t at, int64_t n) {
      accumulate(rule_.momentum, velocity_[shard].view().slice(at, n), y.slice(at, n));
      return true;
    });
  }
  return look_ahead_[shard];
}

Payload CenterServer::rounded(int shard) {
  Payload p = Payload::copy_of(part(shard, Wanted::working).view(dtype_));
  const VecView values = p.mutable_view(dtype_), unsent = unsent_[shard].mutable_view();
  in_parts(values.size, [&](int64_t at, int64_t n) {
    round_to_packing(packing_, values.slice(at, n), unsent.slice(at, n));
    return true;
  });
  return p;
}

double CenterServer::median_of_others(Rank rank) const {
  std::vector<double> others;
  for (Rank r = 0; r < workers_; ++r)
    if (r != rank && !std::isnan(scores_[r])) others.push_back(scores_[r]);
  if (others.empty()) return kNone;
  std::sort(others.begin(), others.end());
  const size_t half = others.size() / 2;
  return others.size() % 2 ? others[half] : (others[half - 1] + others[half]) / 2;
}

void CenterServer::on_fetch(const Message& m) {
  Book* b = book(m, m.head.arg[1], m.head.arg[0]);
  if (!b) return reply(m, Tag::center_part, {-1}, {});
  if (!has_enough()) return reply(m, Tag::center_part, {-2}, {});
  if (!seeded()) return;
  const std::vector<uint64_t> mask = masks(*b);
  const int64_t others = std::bit_cast<int64_t>(median_of_others(m.head.source));
  const auto wanted = static_cast<Wanted>(m.head.arg[2]);
  for (int s = 0; s < shards_.count(); ++s)
    reply(m, Tag::center_part, {s, version_, static_cast<int64_t>(mask[s]), others},
          wanted == Wanted::working && packing_ != Packing::none ? rounded(s) : part(s, wanted));
}

void CenterServer::on_score(const Message& m) {
  if (books_.count({m.head.source, m.head.arg[0]})) scores_[m.head.source] = std::bit_cast<double>(m.head.arg[1]);
}

void CenterServer::move(int shard, ConstVecView difference) {
  if (!center_[shard].unique()) center_[shard] = Payload::copy_of(center_[shard].view(dtype_));
  const VecView c = center_[shard].mutable_view(dtype_);
  if (!mean_.empty()) {
    const bool all = rule_.average == CenterRule::Average::all;
    average_toward(all ? 1.0 / static_cast<double>(additions_[shard] + 1) : rule_.rate, c, mean_[shard]);
  }
  ++additions_[shard];
  look_ahead_[shard] = {};
  const int64_t moving =
      velocity_.empty() ? 0 : std::clamp<int64_t>(rule_.moving - shards_.begin(shard), 0, shards_.length(shard));
  in_parts(moving, [&](int64_t at, int64_t n) {
    momentum_move(rule_.momentum, difference.slice(at, n), velocity_[shard].mutable_view().slice(at, n),
                  c.slice(at, n));
    return true;
  });
  in_parts(c.size - moving, [&](int64_t at, int64_t n) {
    accumulate(1.0, difference.slice(moving + at, n), c.slice(moving + at, n));
    return true;
  });
}

void CenterServer::on_add(const Message& m) {
  const int64_t s = m.head.arg[0], exchange = m.head.arg[1];
  if (s < 0 || s >= shards_.count() || m.body.size() != center_[s].size() || unseeded_[s]) return;
  Book* b = book(m, m.head.arg[2], m.head.arg[3]);
  if (!b || exchange < b->lowest || !b->applied.insert({exchange, s}).second) return;
  const ConstVecView d = m.body.view(dtype_);
  // What is not finite would reach everybody through the center. It counts as applied: sent again, it is no better.
  if (!in_parts(d.size, [&](int64_t at, int64_t n) { return all_finite(d.slice(at, n)); })) {
    ++refused_;
    return;
  }
  move(static_cast<int>(s), d);
  ++version_;
}

void CenterServer::on_leave(const Message& m) {
  Book* b = book(m, m.head.arg[1], m.head.arg[0]);
  if (!b) return;
  const std::vector<uint64_t> mask = masks(*b);
  Payload body = Payload::allocate(mask.size() * sizeof(uint64_t));
  std::copy(mask.begin(), mask.end(), static_cast<uint64_t*>(body.data()));
  if (m.head.arg[2]) left_[m.head.source] = 1, scores_[m.head.source] = kNone;
  reply(m, Tag::center_ack, {m.head.arg[2]}, std::move(body));
}

SchemeState CenterServer::save() {
  SchemeState state;
  world_.publish([&] {
    Vec center = Vec::empty(shards_.size, dtype_);
    for (int s = 0; s < shards_.count(); ++s) {
      const std::string shard = std::to_string(s);
      copy(center_[s].view(dtype_), center.mutable_view().slice(shards_.begin(s), shards_.length(s)));
      if (!velocity_.empty()) state.vectors["velocity." + shard] = velocity_[s].clone();
      if (!unsent_.empty()) state.vectors["unsent." + shard] = unsent_[s].clone();
      if (!mean_.empty()) state.vectors["mean." + shard] = Vec::copy_of(ConstVecView(mean_[s]));
      state.numbers["additions." + shard] = additions_[s];
    }
    state.vectors["center"] = center;
    state.numbers["version"] = version_;
    state.numbers["refused"] = refused_;
    for (Rank r = 0; r < workers_; ++r) {
      state.numbers["lives." + std::to_string(r)] = lives_[r];
      state.numbers["left." + std::to_string(r)] = left_[r];
      state.numbers["score." + std::to_string(r)] = std::bit_cast<int64_t>(scores_[r]);
    }
    for (const auto& [key, b] : books_) {
      const std::string name = std::to_string(key.first) + "." + std::to_string(key.second);
      std::vector<int64_t> applied;
      for (auto [exchange, shard] : b.applied) applied.insert(applied.end(), {exchange, shard});
      state.numbers["lowest." + name] = b.lowest;
      state.vectors["applied." + name] = Vec::copy_of(ConstVecView(applied));
    }
  });
  return state;
}

Status CenterServer::load(const SchemeState& state) {
  auto center = state.vectors.find("center");
  if (center == state.vectors.end() || center->second.size() != shards_.size || center->second.dtype() != dtype_)
    return make_status(StatusCode::data_error, "the saved center does not fit: ", shards_.size, " ", to_string(dtype_),
                       " are expected");
  auto number = [&](const std::string& name) {
    auto found = state.numbers.find(name);
    return found == state.numbers.end() ? int64_t(0) : found->second;
  };
  version_ = number("version");
  refused_ = number("refused");
  books_.clear();
  for (Rank r = 0; r < workers_; ++r) {
    const std::string rank = std::to_string(r);
    lives_[r] = number("lives." + rank);
    left_[r] = static_cast<char>(number("left." + rank));
    scores_[r] = std::bit_cast<double>(number("score." + rank));
    for (int64_t life = 1; life <= lives_[r]; ++life) {
      const std::string name = rank + "." + std::to_string(life);
      auto applied = state.vectors.find("applied." + name);
      if (applied == state.vectors.end()) continue;
      Book& b = books_[{r, life}];
      b.lowest = number("lowest." + name);
      const auto* v = static_cast<const int64_t*>(applied->second.view().data);
      for (int64_t i = 0; i + 1 < applied->second.size(); i += 2) {
        if (v[i + 1] < 0 || v[i + 1] >= shards_.count())
          return make_status(StatusCode::data_error, "saved '", applied->first, "' names shard ", v[i + 1]);
        b.applied.insert({v[i], v[i + 1]});
      }
    }
  }
  reset(center->second.view());
  auto fits = [&](const std::string& name, int s, DType dtype) {
    auto found = state.vectors.find(name + "." + std::to_string(s));
    return found != state.vectors.end() && found->second.size() == shards_.length(s) && found->second.dtype() == dtype
               ? &found->second
               : nullptr;
  };
  for (int s = 0; s < shards_.count(); ++s) {
    additions_[s] = number("additions." + std::to_string(s));
    const Vec* velocity = fits("velocity", s, dtype_);
    const Vec* mean = fits("mean", s, DType::f64);
    const Vec* unsent = fits("unsent", s, dtype_);
    if ((!velocity_.empty() && !velocity) || (!mean_.empty() && !mean) || (!unsent_.empty() && !unsent))
      return make_status(StatusCode::data_error, "the saved center does not fit: it has another rule");
    if (!velocity_.empty()) velocity_[s] = velocity->clone();
    if (!unsent_.empty()) unsent_[s] = unsent->clone();
    if (!mean_.empty()) mean_[s] = to_doubles(mean->view());
  }
  listen();
  return Status::Ok();
}

}  // namespace sinew::dist
