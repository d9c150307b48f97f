// Trains `tiny`, the smallest network, on a folder of videos and keeps what it learned: which frames and sounds belong
// together, and nobody told it. A tenth of the videos is held back to see how well that works on videos it has not met.
//   train_avc FOLDER CHECKPOINT.safetensors [PAIRS]
// `l3 train` does the same with validation on the way, a log, and a way to go on after an interruption.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <iostream>
#include <l3/l3net.hpp>
#include <l3/media.hpp>

using model = l3::tiny;
using network = l3::l3_network<l3::cpu, model>;

void refused(l3::refusal const& r) { std::cerr << "train_avc: left out: " << r.why << '\n'; }

// The network's answers to 500 fixed pairs of frame and second, half of which belong together.
l3::correspondence test(l3::context<l3::cpu>& threads, network const& net, l3::clip_list const& clips) {
  l3::loader<model> pairs(clips, {.batch = 50, .evaluation_pairs = 500, .on_refusal = refused});
  l3::inference<network> ask(threads, net, 50);
  l3::tensor<float, l3::features<2>> scores(50);
  l3::correspondence_meter meter;
  while (auto const* batch = pairs.next()) {
    auto const logits = scores.view().slice(0, batch->count);
    ask.score(batch->frame_view(), batch->sound_view(), logits);
    meter.add(logits.values(), batch->label_view(), std::span(batch->frame_clips).first(batch->count));
  }
  return meter.result(/*seed*/ 1);
}

void learn(std::filesystem::path const& folder, std::filesystem::path const& checkpoint, std::uint64_t pairs) {
  std::uint64_t const seed = 1;
  l3::clip_split const clips = l3::split_clips(l3::read_clips(folder), seed, {.train = 0.9, .valid = 0, .test = 0.1});
  std::cout << clips.train.size() << " videos to learn from, " << clips.test.size() << " held back\n";

  // Every frame of a batch meets every sound of it, so no video may be in a batch twice.
  std::size_t const batch = std::min(model::batch, clips.train.size());
  l3::context<l3::cpu> threads;
  network net;
  net.initialise(seed);
  l3::trainer teacher(threads, net, {.which = l3::pairing::all, .batch = batch, .learning_rate = model::learning_rate});
  l3::loader<model> videos(clips.train,
                           {.seed = seed, .batch = batch, .pairs = l3::pairing::all, .on_refusal = refused});

  std::uint64_t const last_step = std::max<std::uint64_t>(1, pairs / batch);
  double loss = 0;
  l3::train(teacher, videos, last_step, [&](l3::step_report const& done, l3::step_timing const&) {
    loss = done.step == 1 ? done.score.loss : 0.95 * loss + 0.05 * done.score.loss;  // running mean; chance is 0.693
    if (done.step % 50 == 0 || done.step == last_step)
      std::cout << "step " << done.step << " of " << last_step << ": loss " << loss << std::endl;
    return true;  // false would stop
  });
  l3::save_checkpoint(checkpoint, net, &teacher.optimizer(), {.step = teacher.steps(), .seed = seed});
  std::cout << "weights in " << checkpoint.string() << '\n';

  if (clips.test.size() < 2) return;  // too few to make pairs of
  l3::correspondence const result = test(threads, net, clips.test);
  std::cout << "accuracy on the videos held back: " << result.accuracy << " (95 % interval " << result.interval[0]
            << " to " << result.interval[1] << "; chance is 0.5)\n";
}

int main(int argc, char** argv) try {
  std::uint64_t pairs = 100'000;
  if (argc == 4) {
    char const* const end = argv[3] + std::strlen(argv[3]);
    if (auto const [stop, problem] = std::from_chars(argv[3], end, pairs); problem != std::errc{} || stop != end)
      argc = 0;
  }
  if (argc != 3 && argc != 4) {
    std::cerr << "Usage: train_avc FOLDER CHECKPOINT.safetensors [PAIRS]\n";
    return 2;
  }
  l3::require_processor();
  learn(argv[1], argv[2], pairs);
} catch (std::exception const& e) {
  std::cerr << "train_avc: " << e.what() << '\n';
  return 1;
}
