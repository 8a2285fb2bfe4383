#include "dist/schemes/lockstep.h"

#include <algorithm>
#include <functional>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "dist/schemes/state.h"

namespace sinew::dist {
namespace {

const std::string kResidual = "lockstep.residual.";
constexpr int64_t kStreams = 16;  // at most, of all_reduce_packed()
constexpr int kFruitless = 3;     // NCCL groups that end without a result or a loss, and no more are made
constexpr int64_t kSlow = 1;      // rounds of a group that does not get on
constexpr int kInPart = 8;        // such groups that are the one before, and reach each other in part
// Groups that are the one before and complete no round. Messages that are lost at random, one in ten say, make many.
constexpr int kStuck = 100;

std::vector<Rank> all_workers(int workers) {
  std::vector<Rank> ranks(workers);
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

void keep(ConstVecView x, Vec& place) {
  if (!place.defined() || place.size() != x.size || place.dtype() != x.dtype || place.device() != x.device)
    place = Vec::empty(x.size, x.dtype, x.device);
  copy(x, place.mutable_view());
}

}  // namespace

Lockstep::Lockstep(World& world, const SchemeOptions& options)
    : world_(world),
      workers_(options.workers),
      deadline_(options.deadline),
      packing_(packing_of(options.wire)),
      on_device_(options.communicator == "nccl" ? DeviceCollectives::nccl : DeviceCollectives::staged),
      parameters_(options.parameters),
      liveness_(world, options.workers, options.deadline),
      membership_(world, liveness_, all_workers(options.workers), options.deadline) {
  form();
}

void Lockstep::form() {
  communicator_.emplace(
      world_, membership_.members(), deadline_, static_cast<uint64_t>(membership_.epoch()),
      [this] { return membership_.is_asked(); }, on_device_, &liveness_);
}

Status Lockstep::start(uint64_t fingerprint) {
  if (world_.incarnation() > 0)
    return make_status(StatusCode::peer_lost, "rank ", world_.rank(),
                       " was restarted, but a synchronous scheme cannot take a worker back");
  const std::vector<int64_t> mine{static_cast<int64_t>(fingerprint)};
  std::vector<int64_t> all(membership_.members().size(), mine[0]);
  SINEW_RETURN_IF_ERROR(gather(mine, all));
  for (size_t r = 0; r < all.size(); ++r)
    if (all[r] != mine[0])
      return make_status(StatusCode::invalid_argument, "ranks ", world_.rank(), " and ", r,
                         " differ in model, data type or options; start all with the same configuration");
  return Status::Ok();
}

Status Lockstep::all_reduce(VecView x, bool average) {
  return round(x, [&](Communicator& members) { return members.all_reduce(x, average); });
}

Status Lockstep::gather(ConstVecView own, VecView all) {
  return round(all, [&](Communicator& members) {
    Vec given = Vec::empty(own.size * members.size(), own.dtype);
    SINEW_RETURN_IF_ERROR(members.all_gather(own, given.mutable_view()));
    for (int i = 0; i < members.size(); ++i)
      copy(given.view().slice(own.size * i, own.size),
           all.slice(own.size * membership_.members()[static_cast<size_t>(i)], own.size));
    return Status::Ok();
  });
}

Status Lockstep::together(const Attempt& attempt) {
  return round(VecView(), [&](Communicator& members) {
    SINEW_RETURN_IF_ERROR(attempt(members));
    // Who has heard of all that they have come so far goes on, and then so can they.
    const std::vector<int64_t> done{1};
    std::vector<int64_t> all(static_cast<size_t>(members.size()));
    return members.all_gather(done, all);
  });
}

Status Lockstep::all_reduce_packed(VecView x, bool average, size_t stream) {
  if (packing_ == Packing::none) return all_reduce(x, average);
  const int64_t n = parameters_ < 0 ? x.size : std::min(parameters_, x.size);
  const VecView parameters = x.slice(0, n), buffers = x.slice(n, x.size - n);
  if (stream >= residuals_.size()) residuals_.resize(stream + 1);
  Vec& residual = residuals_[stream];
  if (!residual.defined()) residual = Vec::zeros(n, x.dtype);
  if (residual.size() != n || residual.dtype() != x.dtype)
    return make_status(StatusCode::data_error, "the saved scheme does not fit: a '", kResidual, stream, "' of ", n, " ",
                       to_string(x.dtype), " is expected");
  SINEW_RETURN_IF_ERROR(round(parameters, [&](Communicator& members) {
    keep(residual.view(), next_residual_);
    return members.all_reduce_packed(parameters, average, packing_, next_residual_.mutable_view());
  }));
  // Also when the result is another's: then this member's part in it was complete.
  std::swap(residual, next_residual_);
  return buffers.size == 0 ? Status::Ok() : all_reduce(buffers, average);
}

Status Lockstep::finish() {
  double token = 0;
  const VecView x(&token, 1, DType::f64);
  SINEW_RETURN_IF_ERROR(round(
      x, [&](Communicator& members) { return members.all_reduce(x); }, true));
  membership_.finish();
  return Status::Ok();
}

Communicator Lockstep::part(std::vector<Rank> ranks) {
  constexpr uint64_t kParts = 1 << 20;  // apart from the collectives of all
  return {world_,
          std::move(ranks),
          deadline_,
          kParts + static_cast<uint64_t>(membership_.epoch()),
          [this] { return membership_.is_asked(); },
          on_device_,
          &liveness_};
}

Status Lockstep::round(VecView x, const Attempt& attempt, bool finishing) {
  if (membership_.members().size() > 1) keep(x, given_);
  for (Status status = attempt(*communicator_);;) {
    if (status.ok()) {
      fruitless_ = 0;
      ++completed_;
      if (membership_.members().size() > 1) keep(x, result_);
      return status;
    }
    if (status.code() != StatusCode::peer_lost && status.code() != StatusCode::timeout) return status;
    const Result<Membership::Formed> formed = re_form(status, finishing);
    if (!formed.ok()) return formed.status();
    if (formed->over) return Status::Ok();
    if (completed_ < formed->completed) {
      status = x.size > 0 ? fetch_result(formed->holder, x) : Status::Ok();
      continue;
    }
    if (formed->holder == world_.rank() && result_.size() > 0)
      for (Rank r : formed->behind)
        world_.send(r, {.tag = Tag::sync_result, .request = static_cast<uint64_t>(membership_.epoch())},
                    Payload::copy_of(result_.view()));
    copy(given_.view(), x);
    status = attempt(*communicator_);
  }
}

Result<Membership::Formed> Lockstep::re_form(const Status& why, bool finishing) {
  SINEW_RETURN_IF_ERROR(communicator_->abandon());
  const std::vector<Rank> before = membership_.members();
  if (completed_ - completed_before_ > kSlow) repeats_ = in_part_ = 0;
  if (completed_ > completed_before_) stuck_ = 0;
  // Once it may be a lost message, or a partition that heals.
  Result<Membership::Formed> formed =
      membership_.reform(completed_, finishing, repeats_ > 0 ? unreached() : std::vector<Rank>());
  if (!formed.ok() || formed->over) return formed;
  const bool same = membership_.members() == before;
  repeats_ = same ? repeats_ + 1 : 0;
  stuck_ = same ? stuck_ + 1 : 0;
  in_part_ = same ? in_part_ + formed->in_part : 0;
  if (in_part_ >= kInPart || stuck_ >= kStuck)
    return make_status(
        StatusCode::peer_lost, why.message(), ", ", repeats_, " times in a row among the same ", before.size(),
        " workers: ", in_part_ >= kInPart ? "they reach each other only in part" : "messages between them are lost");
  // The members reach each other, but not by NCCL's own connections.
  if (!same)
    fruitless_ = 0;
  else if (on_device_ == DeviceCollectives::nccl && why.code() == StatusCode::timeout)
    ++fruitless_;
  if (fruitless_ >= kFruitless)
    return make_status(StatusCode::unavailable, why.message(), ", ", kFruitless,
                       " times in a row, and nobody is lost: see NCCL_DEBUG=WARN and NCCL_SOCKET_IFNAME, raise "
                       "--scheme.deadline, or use --run.communicator ring");
  completed_before_ = completed_;
  unheard_ = kAnyRank;
  if (!same || completed_ == formed->completed) untold_ = kAnyRank;
  communicator_->drop_late();
  form();
  return formed;
}

std::vector<Rank> Lockstep::unreached() const {
  std::vector<Rank> ranks = liveness_.silent(membership_.members());
  for (Rank r : membership_.members())
    if (r != world_.rank() && (r == unheard_ || is_lost(world_.peer(r)))) ranks.push_back(r);
  return ranks;
}

Status Lockstep::fetch_result(Rank holder, VecView x) {
  const Match match{.tag = Tag::sync_result, .source = holder, .request = static_cast<uint64_t>(membership_.epoch())};
  const Deadline deadline(world_, deadline_);
  Received r;
  do {
    r = world_.receive(match, std::min(deadline.left(), 100 * kMillisecond));
    if (r.what == Received::What::timeout && membership_.is_asked()) break;
  } while (r.what == Received::What::timeout && deadline.left() > 0);
  if (r.what == Received::What::timeout && deadline.left() == 0) {
    // Once, the message may be lost.
    if (untold_ == holder) unheard_ = holder;
    untold_ = holder;
  }
  if (!r.ok() || r.message.body.size() != x.bytes())
    return make_status(StatusCode::peer_lost, "rank ", holder, " is lost before it told the last round's result");
  upload(r.message.body.data(), x);
  return Status::Ok();
}

void Lockstep::save(SchemeState& state) const {
  for (size_t i = 0; i < residuals_.size(); ++i)
    if (residuals_[i].defined()) state.vectors[kResidual + std::to_string(i)] = residuals_[i].clone();
  if (membership_.epoch() == 0) return;
  const std::vector<int64_t> members(membership_.members().begin(), membership_.members().end());
  state.numbers["lockstep.epoch"] = membership_.epoch();
  state.vectors["lockstep.members"] = Vec::copy_of(ConstVecView(members));
}

Status Lockstep::load(const SchemeState& state) {
  for (const auto& [name, vector] : state.vectors) {
    if (!name.starts_with(kResidual)) continue;
    const Result<int64_t> stream = load_index(name, kResidual, kStreams);
    if (!stream.ok()) return stream.status();
    const auto place = static_cast<size_t>(*stream);
    if (place >= residuals_.size()) residuals_.resize(place + 1);
    residuals_[place] = Vec::empty(vector.size(), vector.dtype());
    SINEW_RETURN_IF_ERROR(load_vector(state, name, residuals_[place]));
  }
  auto epoch = state.numbers.find("lockstep.epoch");
  auto members = state.vectors.find("lockstep.members");
  if (epoch == state.numbers.end() || members == state.vectors.end()) return Status::Ok();
  const Vec& saved = members->second;
  std::vector<int64_t> v(static_cast<size_t>(saved.size()));
  const bool numbers = saved.dtype() == DType::i64;
  if (numbers) download(saved.view(), v.data());
  // Of this job's workers, in ascending order, this one among them.
  if (!numbers || epoch->second < 1 || std::find(v.begin(), v.end(), world_.rank()) == v.end() || v.front() < 0 ||
      v.back() >= workers_ || std::adjacent_find(v.begin(), v.end(), std::greater_equal<>()) != v.end())
    return make_status(StatusCode::data_error, "the saved scheme does not fit: '", members->first,
                       "' are not ascending ranks below ", workers_, ", ", world_.rank(), " among them");
  membership_.restore(epoch->second, {v.begin(), v.end()});
  form();
  return Status::Ok();
}

}  // namespace sinew::dist
