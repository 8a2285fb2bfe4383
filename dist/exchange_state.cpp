// What Exchange must remember to continue bit for bit.
#include <algorithm>
#include <bit>
#include <string>
#include <utility>

#include "dist/exchange.h"

namespace sinew::dist {
namespace {

int64_t bits(double value) { return std::bit_cast<int64_t>(value); }

}  // namespace

void Exchange::save(SchemeState& state) const {
  auto bytes = [](const Payload& p) { return Vec::copy_of(p.view(DType::u8)); };
  world_.publish([&] {
    state.numbers["exchange.next"] = next_;
    state.numbers["exchange.resent"] = resent_;
    state.numbers["exchange.lost"] = lost_count_;
    state.numbers["exchange.largest_answer"] = bits(largest_answer_);
    const std::vector<int64_t> silent(silent_.begin(), silent_.end());
    state.vectors["exchange.silent"] = Vec::copy_of(ConstVecView(silent));
    answer_time_.save("exchange.answer_time", state.numbers);
    for (const auto& [number, o] : open_) {
      const std::string name = std::to_string(number);
      const std::vector<int64_t> fields{o.peer, o.round, bits(o.value), o.given_up, o.age, o.due, o.asked_at};
      state.vectors["exchange.open." + name] = Vec::copy_of(ConstVecView(fields));
      if (o.body.size() > 0) state.vectors["exchange.sent." + name] = bytes(o.body);
    }
    for (const auto& [rank, book] : books_) {
      std::vector<int64_t> fields{book.incarnation, book.lowest};
      for (const auto& [number, d] : book.decided) {
        fields.insert(fields.end(), {number, d.yes + 2 * d.unconfirmed, bits(d.value)});
        if (d.body.size() > 0)
          state.vectors["exchange.body." + std::to_string(rank) + "." + std::to_string(number)] = bytes(d.body);
      }
      state.vectors["exchange.book." + std::to_string(rank)] = Vec::copy_of(ConstVecView(fields));
    }
    for (size_t i = 0; i < settled_.size(); ++i) {
      const Outcome& o = settled_[i];
      const std::string name = std::to_string(i);
      const std::vector<int64_t> fields{o.number, o.round, o.peer, int64_t(o.what), bits(o.asked), bits(o.value)};
      state.vectors["exchange.settled." + name] = Vec::copy_of(ConstVecView(fields));
      if (o.sent.size() > 0) state.vectors["exchange.settled_sent." + name] = bytes(o.sent);
      if (o.body.size() > 0) state.vectors["exchange.settled_body." + name] = bytes(o.body);
    }
    for (size_t i = 0; i < held_.size(); ++i) {
      const Head& h = held_[i].head;
      const std::string name = std::to_string(i);
      const std::vector<int64_t> fields{h.source, h.incarnation, h.arg[0], h.arg[1], h.arg[2], h.arg[3]};
      state.vectors["exchange.held." + name] = Vec::copy_of(ConstVecView(fields));
      if (held_[i].body.size() > 0) state.vectors["exchange.held_body." + name] = bytes(held_[i].body);
    }
  });
}

Status Exchange::load(const SchemeState& state) {
  if (auto largest = state.numbers.find("exchange.largest_answer"); largest != state.numbers.end())
    largest_answer_ = std::bit_cast<double>(largest->second);
  answer_time_.load("exchange.answer_time", state.numbers);
  if (auto silent = state.vectors.find("exchange.silent");
      silent != state.vectors.end() && silent->second.dtype() == DType::i64 && silent->second.size() == workers_) {
    const auto* v = static_cast<const int64_t*>(silent->second.view().data);
    for (int64_t r = 0; r < workers_; ++r) silent_[static_cast<size_t>(r)] = v[r] != 0;
  }
  for (auto [name, field] :
       {std::pair{"exchange.next", &next_}, {"exchange.resent", &resent_}, {"exchange.lost", &lost_count_}}) {
    auto found = state.numbers.find(name);
    if (found == state.numbers.end())
      return make_status(StatusCode::data_error, "the saved scheme has no '", name, "'");
    *field = found->second;
  }
  auto body = [&](const std::string& name) {
    auto found = state.vectors.find(name);
    return found == state.vectors.end() ? Payload() : Payload::copy_of(found->second.view());
  };
  auto fields = [&](const std::string& name) -> const int64_t* {
    auto found = state.vectors.find(name);
    const bool fits = found != state.vectors.end() && found->second.dtype() == DType::i64 && found->second.size() == 6;
    return fits ? static_cast<const int64_t*>(found->second.view().data) : nullptr;
  };
  for (int64_t i = 0;; ++i) {
    const std::string name = std::to_string(i);
    const int64_t* v = fields("exchange.settled." + name);
    if (!v) break;
    settled_.push_back({.number = v[0],
                        .round = v[1],
                        .peer = static_cast<Rank>(v[2]),
                        .what = static_cast<Outcome::What>(v[3]),
                        .asked = std::bit_cast<double>(v[4]),
                        .value = std::bit_cast<double>(v[5]),
                        .sent = body("exchange.settled_sent." + name),
                        .body = body("exchange.settled_body." + name)});
    ++outstanding_;
  }
  for (int64_t i = 0;; ++i) {
    const std::string name = std::to_string(i);
    const int64_t* v = fields("exchange.held." + name);
    if (!v) break;
    Head head{
        .tag = Tag::gossip_request, .source = static_cast<Rank>(v[0]), .incarnation = static_cast<uint32_t>(v[1])};
    std::copy(v + 2, v + 6, head.arg);
    held_.push_back({head, body("exchange.held_body." + name)});
  }
  const std::string open = "exchange.open.", book = "exchange.book.";
  for (const auto& [name, vector] : state.vectors) {
    if (vector.dtype() != DType::i64) continue;
    const auto* v = static_cast<const int64_t*>(vector.view().data);
    if (name.starts_with(open) && vector.size() == 7 && v[0] >= 0 && v[0] < workers_) {
      const std::string number = name.substr(open.size());
      open_[std::stoll(number)] = {.peer = static_cast<Rank>(v[0]),
                                   .round = v[1],
                                   .value = std::bit_cast<double>(v[2]),
                                   .body = body("exchange.sent." + number),
                                   .given_up = v[3] != 0,
                                   .age = v[4],
                                   .due = v[5],
                                   .asked_at = std::min(v[6], world_.now())};  // another process's clock is another
      ++outstanding_;
    } else if (name.starts_with(book) && vector.size() >= 2) {
      const std::string rank = name.substr(book.size());
      Book& b = books_[static_cast<Rank>(std::stol(rank))];
      b.incarnation = static_cast<uint32_t>(v[0]);
      b.lowest = v[1];
      for (int64_t i = 2; i + 2 < vector.size(); i += 3)
        b.decided[v[i]] = {(v[i + 1] & 1) != 0, (v[i + 1] & 2) != 0, std::bit_cast<double>(v[i + 2]),
                           body("exchange.body." + rank + "." + std::to_string(v[i]))};
    } else if (name.starts_with(open) || name.starts_with(book)) {
      return make_status(StatusCode::data_error, "the saved '", name, "' does not fit");
    }
  }
  return Status::Ok();
}

}  // namespace sinew::dist
