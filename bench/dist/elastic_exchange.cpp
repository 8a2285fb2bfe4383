// One elastic exchange (scheme `easgd` with one worker) of 3 million floats over the real world, against two plain
// one-way transfers of the same bytes, the center's to the worker and back, one after the other. Both end when the
// other side has handled everything: a last small message is answered only after what was sent before it.
//
//   bench_dist_elastic_exchange       # starts a worker and a center; goal: ratio at most 1.5
//
// Verified first: with alpha = 1/2 and integer parameters, worker and center meet exactly in the middle.
#include <chrono>
#include <cstring>

#include "bench/support/job.h"
#include "dist/scheme.h"

namespace sinew {
namespace {

constexpr int64_t kFloats = 3'000'000;
constexpr int kRounds = 60, kWarmUp = 5;
constexpr dist::Rank kWorker = 0, kCenter = 1;
const dist::SchemeOptions kScheme{.name = "easgd", .workers = 1, .period = 1, .alpha = 0.5};

// What the center does with Tag::test.
enum class Ask : int64_t { acknowledge = 0, vector = 1 };

Status serve(dist::World& world) {
  const dist::Payload vector = dist::Payload::allocate(kFloats * sizeof(float));
  std::memset(vector.data(), 0, vector.size());
  world.on(dist::Tag::test, [&](const dist::Message& m) {
    dist::Head head{.tag = dist::Tag::test, .is_reply = 1, .request = m.head.request};
    world.send(m.head.source, head, m.head.arg[0] == static_cast<int64_t>(Ask::vector) ? vector : dist::Payload());
  });
  const auto center = dist::make_center(kScheme, world, kFloats, DType::f32);
  SINEW_RETURN_IF_ERROR(center->start(Vec::zeros(kFloats, DType::f32).view()));
  return dist::serve_all(*center, world);
}

Status ask(dist::World& world, Ask what, dist::Payload body = {}) {
  dist::Head head{.tag = dist::Tag::test};
  head.arg[0] = static_cast<int64_t>(what);
  const dist::Received r = dist::fetch(world, kCenter, head, std::move(body), dist::Tag::test, 10 * dist::kSecond);
  return r.ok() ? Status::Ok() : make_status(StatusCode::timeout, "no answer from the center");
}

template <class F>
Result<double> seconds(F fn) {
  const auto begin = std::chrono::steady_clock::now();
  SINEW_RETURN_IF_ERROR(fn());
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

Status work(dist::World& world) {
  std::vector<float> initial(kFloats);
  for (int64_t i = 0; i < kFloats; ++i) initial[static_cast<size_t>(i)] = static_cast<float>(i % 1000);
  Vec theta = Vec::copy_of(ConstVecView(initial));
  const auto scheme = dist::make_scheme(kScheme, world, kFloats, DType::f32);
  SINEW_RETURN_IF_ERROR(scheme->start(theta.mutable_view()));
  int64_t step = 0;
  auto exchange = [&]() -> Status {
    SINEW_RETURN_IF_ERROR(scheme->before_step(step, theta.mutable_view()));
    SINEW_RETURN_IF_ERROR(scheme->after_step(step++, theta.mutable_view()));
    return ask(world, Ask::acknowledge);
  };

  SINEW_RETURN_IF_ERROR(exchange());
  SINEW_RETURN_IF_ERROR(exchange());  // its answer carries the center that the first one made
  Vec center = Vec::zeros(kFloats, DType::f32);
  SINEW_RETURN_IF_ERROR(scheme->evaluation_point(theta.view(), center.mutable_view()));
  for (int64_t i = 0; i < kFloats; ++i) {
    const float half = initial[static_cast<size_t>(i)] / 2;
    if (static_cast<const float*>(theta.view().data)[i] != half ||
        static_cast<const float*>(center.view().data)[i] != half)
      return make_status(StatusCode::internal, "the exchange is wrong at element ", i);
  }

  const dist::Payload vector = dist::Payload::copy_of(theta.view());
  auto transfers = [&]() -> Status {
    SINEW_RETURN_IF_ERROR(ask(world, Ask::vector));
    return ask(world, Ask::acknowledge, vector);
  };
  std::vector<double> elastic, plain, ratio;
  for (int round = -kWarmUp; round < kRounds; ++round) {
    const Result<double> a = seconds(exchange), b = seconds(transfers);
    if (!a.ok()) return a.status();
    if (!b.ok()) return b.status();
    if (round < 0) continue;
    elastic.push_back(*a);
    plain.push_back(*b);
    ratio.push_back(*a / *b);
  }
  bench::report("exchange", "elastic_3M", bench::median(elastic));
  bench::report("two_transfers", "elastic_3M", bench::median(plain));
  std::printf("# ratio of the medians %.2f, median of the ratios %.2f; %lld missed, %lld resent\n",
              bench::median(elastic) / bench::median(plain), bench::median(ratio),
              static_cast<long long>(scheme->counters().missed), static_cast<long long>(scheme->counters().resent));
  return scheme->finish(theta.mutable_view());
}

}  // namespace
}  // namespace sinew

int main(int argc, char** argv) {
  return sinew::bench::run_job(argc, argv, {2}, [](sinew::dist::World& world) {
    return world.rank() == sinew::kWorker ? sinew::work(world) : sinew::serve(world);
  });
}
