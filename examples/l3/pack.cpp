// l3 pack: decodes a collection once, into shards that training reads at full speed.
#include <atomic>
#include <l3/data/collection.hpp>
#include <l3/data/pack.hpp>
#include <l3/data/pack_check.hpp>
#include <limits>
#include <optional>

#include "program.hpp"

namespace l3::program {
namespace {

struct pack_command : common_options {
  std::string data, out;
  pack_options made;
  double shard_mebibytes = 1024;
  std::size_t most_failures = std::numeric_limits<std::size_t>::max();
  bool verify = false;
};

int verify_run(pack_command const& o) {
  if (!packed_clips::is_packed(o.data)) {
    auto const begun = std::filesystem::path(o.data) / detail::packing_index_name;
    throw format_error({o.data, "a packed folder",
                        std::filesystem::exists(begun)    ? "one that is not finished"
                        : std::filesystem::exists(o.data) ? "none"
                                                          : "nothing there"});
  }
  std::optional<progress> bar;
  auto const found = check_packing(o.data, o.threads, [&](std::uint64_t read, std::uint64_t total) {
    if (!bar) bar.emplace(o, "bytes", static_cast<double>(total));
    bar->update(static_cast<double>(read), "");
  });
  if (bar) bar->finish();
  for (auto const& each : found.problems) std::cerr << "l3: " << printable(each) << std::endl;  // also when quiet
  o.answer(
      text("%zu clips in %zu shards, %sB: %s", found.clips, found.shards,
           short_number(static_cast<double>(found.bytes)).c_str(),
           found.problems.empty() ? "all as they were written" : text("%zu problems", found.problems.size()).c_str()));
  o.print({{"clips", found.clips}, {"shards", found.shards}, {"bytes", found.bytes}, {"problems", found.problems}});
  return found.problems.empty() ? done : failed;
}

int pack_run(pack_command& o) {
  if (o.verify) return verify_run(o);
  if (o.out.empty()) throw setting_error({"--out", "a folder to write (or --verify, to check one)", "nothing"});
  if (packed_clips::is_packed(o.data)) throw setting_error({"DATA", "videos", o.data + ", which is packed already"});
  clip_list const clips = open_collection(o.data).clips;
  o.made.out = o.out;
  o.made.threads = o.threads;
  o.made.shard_bytes = static_cast<std::uint64_t>(o.shard_mebibytes * (1 << 20));
  interruption guard;
  std::atomic<std::size_t> refused = 0;
  o.made.stop = [&] { return interruption::signal() != 0 || refused > o.most_failures; };
  std::optional<progress> bar;
  o.made.progress = [&](std::size_t finished, clip_record const& r) {
    if (!r.usable(0)) {
      ++refused;
      o.warn("left out " + r.why_unusable());
    }
    bar->update(static_cast<double>(finished), "");
  };
  packer work(clips, o.made);
  refused = work.refused().size();
  for (std::string const& why : work.refused()) o.warn("left out before: " + why);
  if (!work.mended().empty())
    o.warn(text("%zu videos that were left out before can be used now, %s first; --force packs anew, and with them",
                work.mended().size(), work.mended().front().c_str()));
  if (work.changed() > 0)
    o.warn(text("%zu videos have changed since they were packed; --force packs anew", work.changed()));
  bar.emplace(o, "videos", static_cast<double>(clips.size()), static_cast<double>(work.known()));
  auto const r = work.run();
  bar->finish();
  if (refused > o.most_failures)
    throw media_error({o.data, text("at most %zu videos that cannot be used (--max-failures)", o.most_failures),
                       text("%zu; whole shards are kept for the next run", refused.load())});
  if (r.stopped) {
    o.say(text(
        "Interrupted: %zu of %zu videos are in whole shards; the same command (without --force) goes on from there",
        r.finished, r.videos));
    return 128 + interruption::signal();
  }
  std::size_t const left_out = r.videos - r.packed;
  o.answer(text("%zu videos in %zu shards, %sB, %zu left out: %s%s", r.packed, r.shards,
                short_number(static_cast<double>(r.bytes)).c_str(), left_out, o.out.c_str(),
                work.is_whole() ? ", as an earlier run has packed them" : ""));
  o.print({{"out", o.out},
           {"videos", r.videos},
           {"packed", r.packed},
           {"left_out", left_out},
           {"known_before", r.known},
           {"shards", r.shards},
           {"bytes", r.bytes}});
  return o.ended(r.packed, left_out, o.data + ": none of them can be used");
}

}  // namespace

work add_pack(CLI::App& command) {
  auto const o = std::make_shared<pack_command>();
  command.footer(
      "Shards are plain tar files (WebDataset's naming): of each video JPEG pictures, a WAV file of 48 kHz mono\n"
      "sound and a JSON file; OUT/index.l3index knows where they are. train, eval, baseline, inspect units and\n"
      "bench loader read OUT as any DATA. An interrupted run goes on where the last whole shard ends.\n"
      "Exit code 3: some videos could not be used.\n"
      "Example:\n  l3 pack videos.l3index --out packed --fps 5\n  l3 pack packed --verify");
  command.add_option("data", o->data, "Folder, CSV, list or index of videos; with --verify, a packed folder")
      ->required();
  CLI::Option* const out = command.add_option("--out", o->out, "Folder to write");
  command.add_option("--fps", o->made.pictures_per_second, "Pictures kept of each second")
      ->capture_default_str()
      ->check(above_zero)
      ->check(CLI::Range(0.0, 1000.0).description(""));
  command.add_option("--side", o->made.side, "Smallest side of pictures; smaller ones stay as they are")
      ->capture_default_str()
      ->check(CLI::Range(16, 4096).description(""));
  command.add_option("--quality", o->made.quality, "Of JPEG, 1 to 100")
      ->capture_default_str()
      ->check(CLI::Range(1, 100).description(""));
  add_clip_seconds(command, o->made.seconds, "Pack only");
  command.add_option("--shard-size", o->shard_mebibytes, "MiB after which a shard ends")
      ->capture_default_str()
      ->check(above_zero)
      ->check(CLI::Range(0.001, 1e9).description(""));
  command.add_option("--max-failures", o->most_failures, "End when more videos than this cannot be used")
      ->default_str("no limit");
  command.add_flag("--force", o->made.overwrite, "Pack anew what OUT holds already");
  command
      .add_flag("--verify", o->verify, "Read a packed folder and compare its members with the checksums in its index")
      ->excludes(out);
  o->add_to(command);
  return [o] { return pack_run(*o); };
}

}  // namespace l3::program
