#include "dist/schemes/gossip_scheme.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <string>
#include <utility>

namespace sinew::dist {
namespace {

// So many rounds behind the others, parameters are of no use to them.
constexpr int64_t kStale = 10;

}  // namespace

TopologyOptions topology_options(const SchemeOptions& o) {
  const Collision collision = o.collision == "matching" ? Collision::matching
                              : o.collision == "capped" ? Collision::capped
                                                        : Collision::sum;
  return {.name = o.topology,
          .workers = o.workers,
          .edges = o.edges,
          .probability = o.probability,
          .alpha = o.alpha,
          .collision = collision,
          .seed = o.seed};
}

Duty* find_duty(std::vector<Duty>& duties, Rank peer) {
  for (Duty& d : duties)
    if (d.peer == peer) return &d;
  return nullptr;
}

GossipScheme::GossipScheme(const SchemeOptions& options, World& world, int64_t size, DType dtype, Device device)
    : world_(world),
      options_(options),
      period_(options.period),
      size_(size),
      dtype_(dtype),
      device_(device),
      packing_(packing_of(options.wire)),
      exchange_(world, options.workers, options.deadline, dtype, packing_),
      group_(world, options, dtype) {}

Status GossipScheme::start(VecView theta) {
  exchange_.listen([this](const Message& m) { return decide(m); });
  return group_.start(theta);
}

int64_t GossipScheme::enter(int64_t step, ConstVecView theta) {
  if (!std::exchange(entered_, true) && group_.adopted_step() >= 0)
    ahead_ = std::max<int64_t>(ahead_, group_.adopted_step() - step);
  step_ = step + ahead_;
  returning_ = was_stopped();
  group_.serve(step_, theta, [this] {
    suspect_ |= std::exchange(seen_refused_, refused_) != refused_;
    group_at_ = step_;
  });
  // Who comes back asks for parameters, and may be just whom the others wait for.
  exchange_.on_idle([this, theta] { group_.serve(step_, theta); });
  exchange_.nudge();
  return step_;
}

Exchange::Answer GossipScheme::refuse() {
  ++refused_;
  return {.what = Exchange::Answer::What::no, .value = kNotFinite};
}

Status GossipScheme::heal(VecView theta) {
  if (std::exchange(returning_, false) || was_stopped()) {
    stops_ = world_.stops();
    SINEW_RETURN_IF_ERROR(come_back(theta));
  }
  if (!std::exchange(suspect_, false) || all_finite(theta)) return Status::Ok();
  return adopt(theta);
}

// Asks the first one that answers where it is.
Status GossipScheme::come_back(VecView theta) {
  const Deadline deadline(world_, options_.deadline);
  for (int i = 1; i < options_.workers && deadline.left() > 0; ++i) {
    const Rank peer = (world_.rank() + i) % options_.workers;
    const PeerState state = world_.peer(peer);
    if ((is_lost(state) && state != PeerState::left) || exchange_.silent(peer)) continue;
    const int64_t there = group_.step_of(peer);
    if (there >= 0) return there - step_ > kStale * period_ ? adopt(theta) : Status::Ok();
  }
  return Status::Ok();
}

Status GossipScheme::adopt(VecView theta) {
  const Vec before = Vec::copy_of(theta);
  Result<int64_t> step = group_.adopt(theta);
  if (!step.ok() || *step < 0) return step.status();
  adopted_ = true;
  // Parameters that were not finite have moved by all that the new ones are.
  const double moved2 = squared_distance(theta, before.view()), size = norm(theta);
  moved_ += std::isfinite(moved2) ? moved2 : size * size;
  first_number_ = exchange_.next_number();
  ++forgotten_;
  if (*step > step_) catch_up(*step);
  return Status::Ok();
}

void GossipScheme::catch_up(int64_t group_step) {
  const int64_t next = std::max(step_ + 1, group_step);
  ahead_ += next - (step_ + 1);
  step_ = next - 1;
}

Status GossipScheme::finish(VecView theta) {
  Status waited;
  exchange_.on_idle({});
  if (exchanges_to_the_end() && options_.workers > 1) {
    const auto meanwhile = [&] {
      stops_ = world_.stops();  // nothing of its own to catch up with
      catch_up_with_handlers(theta);
      group_.serve(step_, theta);  // who comes back asks for parameters
      exchange_.nudge();
    };
    meanwhile();
    waited = group_.wait_for_last_steps(meanwhile);
  }
  SINEW_RETURN_IF_ERROR(finish_exchanges(theta));  // this ends the handlers' part, whatever was waited for
  SINEW_RETURN_IF_ERROR(waited);
  group_.settle(theta);
  settled_ = true;
  return Status::Ok();
}

Status GossipScheme::evaluation_point(ConstVecView theta, VecView out) {
  if (!std::exchange(settled_, true)) group_.settle(theta);
  return group_.average(out);
}

double GossipScheme::take_external_write() { return std::exchange(moved_, 0.0); }

SchemeCounters GossipScheme::counters() const {
  SchemeCounters c{
      .exchanges = exchanges_, .missed = missed_, .resent = exchange_.resent(), .lost = exchange_.lost_count()};
  c.lost += forgotten_;
  c.staleness = staleness_;
  world_.publish([&] { c.refused = refused_; });
  return c;
}

SchemeState GossipScheme::save() const {
  SchemeState state;
  exchange_.save(state);
  group_.save(state);
  if (unsent_.defined()) state.vectors["unsent"] = unsent_.clone();
  const SchemeCounters c = counters();
  state.numbers["exchanges"] = c.exchanges;
  state.numbers["missed"] = c.missed;
  state.numbers["refused"] = c.refused;
  state.numbers["ahead"] = ahead_;
  c.staleness.save(state.numbers);
  return state;
}

Status GossipScheme::load(const SchemeState& state) {
  SINEW_RETURN_IF_ERROR(exchange_.load(state));
  group_.load(state);
  if (auto unsent = state.vectors.find("unsent"); unsent != state.vectors.end()) {
    if (unsent->second.size() != size_ || unsent->second.dtype() != dtype_)
      return make_status(StatusCode::data_error, "saved 'unsent' has ", unsent->second.size(), " elements");
    unsent_ = unsent->second.clone();
  }
  for (auto [name, field] :
       {std::pair{"exchanges", &exchanges_}, {"missed", &missed_}, {"refused", &refused_}, {"ahead", &ahead_}}) {
    auto found = state.numbers.find(name);
    if (found == state.numbers.end())
      return make_status(StatusCode::data_error, "the saved scheme has no '", name, "'");
    *field = found->second;
  }
  staleness_.load(state.numbers);
  exchange_.listen([this](const Message& m) { return decide(m); });
  group_.listen();
  return Status::Ok();
}

double GossipScheme::difference(double a, const Payload& x, const Payload& y, Payload& d) const {
  d = Payload::allocate(x.size());
  double distance2 = 0;
  in_blocks([&](int64_t at, int64_t n) {
    distance2 += elastic_difference(a, x.view(dtype_).slice(at, n), y.view(dtype_).slice(at, n),
                                    d.mutable_view(dtype_).slice(at, n));
  });
  return distance2;
}

bool GossipScheme::finite(const Payload& x) const {
  bool all = true;
  in_blocks([&](int64_t at, int64_t n) { all = all && all_finite(x.view(dtype_).slice(at, n)); });
  return all;
}

bool GossipScheme::takes_part(Rank peer, int64_t round) {
  if (!reachable(peer)) return false;
  if (!exchange_.silent(peer)) return true;
  if (!exchange_.has_open(peer)) exchange_.ask(peer, round, 0, {});
  return false;
}

void GossipScheme::wait_for_mail(Mailbox& mailbox, const std::vector<Rank>& sources, int64_t round,
                                 int64_t asked_before) {
  const auto came = [&](Rank r) { return mailbox.has_come_to(r, round); };
  const bool all = exchange_.wait(Deadline(world_, options_.deadline), sources, [&] {
    // The others are further than this step, and wait for nothing of it.
    const bool behind = exchange_.largest_answer() > static_cast<double>(step_ + 1);
    return behind ||
           (std::all_of(sources.begin(), sources.end(), [&](Rank r) { return came(r) || exchange_.lost(r); }) &&
            exchange_.owing(asked_before).empty());
  });
  world_.publish([&] {
    for (Rank r : sources) {
      if (came(r)) continue;
      mailbox.miss(r, round);
      if (!all) exchange_.miss(r);
    }
    if (all) return;
    for (Rank r : exchange_.owing(asked_before)) exchange_.miss(r);
  });
}

Exchange::Answer GossipScheme::look_at_mail(Mailbox& mailbox, const Message& request) {
  mailbox.see(request);
  const double hint = mailbox.was_missed(request) ? static_cast<double>(group_at_ + 1) : 0;
  const Exchange::Answer yes{.what = Exchange::Answer::What::yes, .value = hint};
  if (request.body.size() == 0) return yes;  // it has nothing to send in this round
  if (!fits(request.body)) return {};
  return finite(request.body) ? yes : refuse();
}

Exchange::Answer GossipScheme::accept(Mailbox& mailbox, const Message& request) {
  const Exchange::Answer answer = look_at_mail(mailbox, request);
  if (answer.what == Exchange::Answer::What::yes && request.body.size() > 0) mailbox.put(request);
  return answer;
}

Exchange::Answer GossipScheme::accept_merged(Mailbox& mailbox, const Message& request, double weight) {
  const Exchange::Answer answer = look_at_mail(mailbox, request);
  if (answer.what != Exchange::Answer::What::yes || request.body.size() == 0 || !(weight > 0)) return answer;
  Mail* waiting = mailbox.last();
  if (!waiting) {
    mailbox.put(request);
    mailbox.last()->value = weight;
    return answer;
  }
  const double sum = waiting->value + weight;
  const Payload mean = waiting->body.unique() ? waiting->body : Payload::allocate(waiting->body.size());
  in_blocks([&](int64_t at, int64_t n) {
    axpby(waiting->value / sum, waiting->body.view(dtype_).slice(at, n), weight / sum,
          request.body.view(dtype_).slice(at, n), mean.mutable_view(dtype_).slice(at, n));
  });
  waiting->body = mean;
  waiting->value = sum;
  ++waiting->count;
  return answer;
}

void GossipScheme::save_mailbox(const Mailbox& mailbox, SchemeState& state) const {
  world_.publish([&] {
    const std::vector<int64_t> seen = mailbox.seen();
    const std::vector<int64_t> missed = mailbox.missed();
    state.vectors["mail.seen"] = Vec::copy_of(ConstVecView(seen));
    state.vectors["mail.missed"] = Vec::copy_of(ConstVecView(missed));
    for (size_t i = 0; i < mailbox.all().size(); ++i) {
      const Mail& m = mailbox.all()[i];
      const std::vector<int64_t> fields{m.from, m.round, std::bit_cast<int64_t>(m.value), m.count};
      const std::string name = std::to_string(i);
      state.vectors["mail.of." + name] = Vec::copy_of(ConstVecView(fields));
      state.vectors["mail.body." + name] = Vec::copy_of(m.body.view(dtype_));
    }
  });
}

void GossipScheme::load_mailbox(const SchemeState& state, Mailbox& mailbox) const {
  auto find = [&](const std::string& name, DType dtype) -> const Vec* {
    auto found = state.vectors.find(name);
    return found == state.vectors.end() || found->second.dtype() != dtype ? nullptr : &found->second;
  };
  if (const Vec* seen = find("mail.seen", DType::i64); seen && seen->size() == options_.workers)
    download(seen->view(), mailbox.seen().data());
  if (const Vec* missed = find("mail.missed", DType::i64); missed && missed->size() == options_.workers)
    download(missed->view(), mailbox.missed().data());
  for (int64_t i = 0;; ++i) {
    const Vec* of = find("mail.of." + std::to_string(i), DType::i64);
    const Vec* body = find("mail.body." + std::to_string(i), dtype_);
    if (!of || of->size() < 3 || !body || body->size() != size_) return;
    const auto* v = static_cast<const int64_t*>(of->view().data);
    mailbox.restore({static_cast<Rank>(v[0]), v[1], std::bit_cast<double>(v[2]), Payload::copy_of(body->view()),
                     of->size() > 3 ? v[3] : 1});
  }
}

ConstVecView GossipScheme::on_device(const Payload& y) {
  if (device_ == Device::cpu) return y.view(dtype_);
  if (!staging_.defined()) staging_ = Vec::empty(size_, dtype_, device_);
  upload(y.data(), staging_.mutable_view());
  return staging_.view();
}

Payload GossipScheme::rounded_copy(ConstVecView x) {
  Payload copy = Payload::copy_of(x);
  if (packing_ == Packing::none) return copy;
  if (!unsent_.defined()) unsent_ = Vec::zeros(size_, dtype_);
  quantize(copy, unsent_.mutable_view());
  return copy;
}

void GossipScheme::quantize(const Payload& values, VecView residual) const {
  if (packing_ == Packing::none) return;
  in_blocks([&](int64_t at, int64_t n) {
    round_to_packing(packing_, values.mutable_view(dtype_).slice(at, n),
                     residual.size ? residual.slice(at, n) : VecView());
  });
}

void GossipScheme::add(double a, const Payload& d, VecView theta) { accumulate(a, on_device(d), theta); }

double GossipScheme::blend(double a, VecView theta, double b, const Payload& y) {
  const ConstVecView other = on_device(y);
  const double distance2 = squared_distance(theta, other);
  axpby(a, theta, b, other, theta);
  return b * b * distance2;
}

}  // namespace sinew::dist
