// l3 synth: a made-up set of videos in which sight and sound belong together.
#include "synth.hpp"

#include "program.hpp"

namespace l3::program {

work add_synth(CLI::App& command) {
  struct options : common_options {
    synth_options made;
    std::string out, level = "easy";
  };
  auto const o = std::make_shared<options>();
  command.footer(
      "Writes MP4 files (H.264, AAC) of made-up instruments and train.csv, valid.csv, test.csv (columns path,label).\n"
      "The class is in shape and timbre; size, place, pitch, tempo, colours and background vary within a class.\n"
      "No network can tell more than 1 - 1/(2 K) of the pairs of K classes apart: 95 % of 10.\n"
      "Example:\n  l3 synth data --videos 640 --seed 1");
  command.add_option("out", o->out, "Folder to write")->required();
  command.add_option("--videos", o->made.videos, "Number of videos: 70 % train, 10 % valid, 20 % test")
      ->capture_default_str();
  command.add_option("--seconds", o->made.seconds, "Length of each")->capture_default_str();
  command.add_option("--seed", o->made.seed, "The same seed gives the same files")->capture_default_str();
  command.add_option("--classes", o->made.classes, "Kinds of instruments, 2 to 16")->capture_default_str();
  command.add_option("--level", o->level, "easy or hard: smaller, noisier, more alike")
      ->check(CLI::IsMember({"easy", "hard"}))
      ->capture_default_str();
  command.add_flag("--independent", o->made.independent,
                   "Sight and sound of independent classes: nothing to learn (for controls)");
  command.add_flag("--force", o->made.overwrite, "Replace a data set that is in OUT already");
  o->add_to(command);
  return interruptible([o] {
    o->made.out = o->out;
    o->made.threads = o->threads;
    o->made.level = o->level == "hard" ? synth::level::hard : synth::level::easy;
    progress bar(*o, "videos", static_cast<double>(o->made.videos));
    interruption guard;
    auto const show = [&](std::size_t finished, std::size_t) { bar.update(static_cast<double>(finished), ""); };
    synth_report const r = write_synth(o->made, show, stop_if_signalled);
    bar.finish();
    o->say(
        text("%zu videos of %.1f s in %s: train.csv (%zu), valid.csv (%zu), test.csv (%zu); no network can exceed %.1f "
             "%% on them",
             r.videos[0] + r.videos[1] + r.videos[2], r.seconds, o->out.c_str(), r.videos[0], r.videos[1], r.videos[2],
             o->made.independent ? 50.0 : 100 - 50.0 / o->made.classes));
    o->print({{"out", o->out},
              {"train", r.videos[0]},
              {"valid", r.videos[1]},
              {"test", r.videos[2]},
              {"seconds", r.seconds},
              {"bytes", r.bytes}});
    return done;
  });
}

}  // namespace l3::program
