// There is no shortcut: what one modality alone shows, and what draws and files look like, says nothing about the
// label.
#include <unistd.h>

#include <l3/data/loader.hpp>
#include <l3/data/video_files.hpp>
#include <l3/eval/metrics.hpp>
#include <l3/train/trainer.hpp>

#include "../support/catch.hpp"
#include "l3/synth.hpp"

using namespace l3;

namespace {

/// Smaller than `tiny`, so that several trainings fit into a test.
struct mini {
  static constexpr char const* name = "mini";
  using frame = image<32, 32, 3>;
  static constexpr std::size_t frame_side = 36;
  using front_end = coarse_front_end;
  static constexpr std::size_t width = 8;
  static constexpr std::size_t hidden = 64;
};
using network = l3_network<cpu, mini>;

enum class sees { everything, frames_alone, sounds_alone, sounds_that_tell };

/// What the network is given: a modality that it must not see is replaced by zeros. Sounds that tell are a little
/// louder in pairs that do not belong together.
struct given {
  tensor<float, network::frame> frames{64};
  tensor<float, network::sound> sounds{64};
  void take(av_batch<network::frame, network::sound> const& batch, sees what) {
    if (what == sees::everything || what == sees::frames_alone)
      std::copy_n(batch.frames.data(), batch.count * network::frame::size, frames.data());
    if (what != sees::frames_alone) std::copy_n(batch.sounds.data(), batch.count * network::sound::size, sounds.data());
    if (what == sees::sounds_that_tell)
      for (std::size_t k = 0; k < batch.count; ++k)
        if (batch.label_view()[k] == 0)
          for (float& v : sounds.view()[k]) v += 0.1f;  // ln(magnitude) / 5
  }
};

/// Enough to leave chance where there is something to learn, as the last section below shows for `pairing::all`.
constexpr std::uint64_t draws = 32000;

correspondence trained(clip_list const& train, clip_list const& test, sees what, pairing which) {
  context<cpu> on;
  network net;
  net.initialise(1);
  trainer<network> t(on, net, {.which = which, .batch = 64, .learning_rate = 1e-3});
  loader<mini> source(train, {.seed = 1, .batch = 64, .pairs = which});
  given g;
  for (std::uint64_t seen = 0; seen < draws; seen += 64) {
    auto const& batch = *source.next();
    g.take(batch, what);
    t.step(g.frames.view(), g.sounds.view(), batch.label_view());
  }
  loader<mini> questions(test, {.seed = 2, .batch = 64, .pairs = pairing::paper, .evaluation_pairs = 1600});
  inference<network> use(on, net, 64);
  tensor<float, features<2>> logits(64);
  correspondence_meter meter;
  while (auto const* batch = questions.next()) {
    g.take(*batch, what);
    std::size_t const n = batch->count;
    use.score(g.frames.view().slice(0, n), g.sounds.view().slice(0, n), logits.view().slice(0, n));
    meter.add(logits.values().first(2 * n), batch->label_view(), std::span(batch->frame_clips).first(n));
  }
  return meter.result(1);
}

struct data_set {
  std::filesystem::path folder;
  explicit data_set(bool independent)
      : folder(std::filesystem::temp_directory_path() /
               ("l3-shortcut-" + std::to_string(::getpid()) + (independent ? "i" : "d"))) {
    program::write_synth(
        {.out = folder, .videos = 400, .seconds = 3, .seed = 11, .overwrite = true, .independent = independent});
  }
  ~data_set() { std::filesystem::remove_all(folder); }
  clip_list part(char const* name) const { return read_clips(folder / name); }
};

/// Written once: every section of a test case begins anew.
data_set const& made(bool independent) {
  static data_set const belong_together(false), have_nothing_to_do(true);
  return independent ? have_nothing_to_do : belong_together;
}

void at_chance(correspondence const& r) {
  INFO("accuracy " << r.accuracy << ", interval " << r.interval[0] << " to " << r.interval[1]);
  // Four questions are asked at 95 %: allow the usual slip of such intervals.
  CHECK(r.interval[0] <= 0.515);
  CHECK(r.interval[1] >= 0.485);
}

}  // namespace

TEST_CASE("one modality alone, or two that have nothing to do with each other, stay at chance and both together learn",
          "[slow]") {
  auto const train = made(false).part("train.csv"), test = made(false).part("test.csv");
  SECTION("frames alone, the paper's pairs") { at_chance(trained(train, test, sees::frames_alone, pairing::paper)); }
  SECTION("sounds alone, the paper's pairs") { at_chance(trained(train, test, sees::sounds_alone, pairing::paper)); }
  SECTION("sounds alone, the paper's pairs, but they tell: the same training finds a shortcut if there is one") {
    correspondence const r = trained(train, test, sees::sounds_that_tell, pairing::paper);
    INFO("accuracy " << r.accuracy);
    CHECK(r.interval[0] > 0.6);
  }
  SECTION("everything, but look and sound are independent") {
    at_chance(trained(made(true).part("train.csv"), made(true).part("test.csv"), sees::everything, pairing::all));
  }
  SECTION("everything, and they belong together: the same training leaves chance") {
    correspondence const r = trained(train, test, sees::everything, pairing::all);
    INFO("accuracy " << r.accuracy);
    CHECK(r.interval[0] > 0.6);
  }
}

TEST_CASE("on real speech and handwriting one modality alone stays at chance", "[slow]") {
  char const* const named = std::getenv("L3_SHARED_DATA");
  std::filesystem::path const digits =
      std::filesystem::path(named != nullptr ? named : L3_SOURCE_DIR "/../shared/data") / "av-digits";
  if (!std::filesystem::exists(digits)) {
    std::puts("SKIPPED: no av-digits in L3_SHARED_DATA");
    return;
  }
  auto const train = read_clips(digits / "train.csv"), test = read_clips(digits / "test.csv");
  SECTION("frames alone") { at_chance(trained(train, test, sees::frames_alone, pairing::paper)); }
  SECTION("sounds alone") { at_chance(trained(train, test, sees::sounds_alone, pairing::paper)); }
}
