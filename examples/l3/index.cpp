// l3 index: looks at every video of a collection once, and writes down what it is.
#include <atomic>
#include <l3/core/context.hpp>
#include <l3/data/clip_index.hpp>
#include <l3/data/packed_clips.hpp>
#include <l3/data/probe.hpp>
#include <l3/data/published_sets.hpp>
#include <l3/data/refusal_lines.hpp>
#include <l3/files/file_lock.hpp>
#include <limits>
#include <mutex>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "index_summary.hpp"
#include "program.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct index_options : common_options {
  std::vector<std::string> sources, drop;
  std::string out, failures;
  double seconds = 10;
  std::size_t most_failures = std::numeric_limits<std::size_t>::max();
  bool quick = false, anew = false;
  set_request set;
};

/// The videos of all sources, in their order, or of a published set.
set_listing list_of(index_options const& o) {
  if (!o.set.set.empty()) {
    if (o.sources.size() != 1)
      throw setting_error({"--dataset", "one list, the set's own", std::to_string(o.sources.size())});
    if (o.set.videos.empty()) throw setting_error({"--videos", "the folder of the set's files", "nothing"});
    auto request = o.set;
    request.list = o.sources[0];
    auto listing = list_published_set(request);
    for (auto const& each : listing.unheard)
      o.warn("class " + each + " does not occur in " + o.sources[0] + "; is it called otherwise now? (--classes)");
    return listing;
  }
  set_listing listing;
  clip_list& all = listing.clips;
  std::unordered_map<std::string, std::string> names;
  for (auto const& source : o.sources)
    for (auto const& each : read_clips(source, 1)) {
      auto const [earlier, is_new] = names.emplace(each.name, source);
      if (!is_new)
        throw format_error(
            {source, "names that " + earlier->second + " does not have (or one folder above both)", each.name});
      all.push_back(each);
    }
  detail::require_different(all, o.sources.back());
  if (all.size() < 2) throw format_error({o.sources.back(), "at least two videos in all", std::to_string(all.size())});
  listing.listed = all.size();
  return listing;
}

std::vector<std::string> flag_names() {
  std::vector<std::string> names;
  for (auto const& [flag, name] : content_flag_names) names.emplace_back(name);
  return names;
}
std::uint32_t flags_named(std::vector<std::string> const& names) {
  std::uint32_t flags = 0;
  for (auto const& name : names)
    for (auto const& [flag, flag_name] : content_flag_names)
      if (name == flag_name) flags |= static_cast<std::uint32_t>(flag);
  return flags;
}

/// An index of earlier, to be asked about files that have not changed since.
class memory {
 public:
  memory(fs::path const& file, index_settings const& wanted) {
    if (!fs::exists(file)) return;
    index_.emplace(file);
    if (!index_->settings().same_probes(wanted)) {
      index_.reset();
      return;
    }
    index_->for_each_name(
        [&](std::int64_t id, std::string_view name) { ids_.insert_or_assign(hash(name), id); });  // the latest
  }

  /// The id of the same file, with the same size and time of change; or 0.
  std::int64_t find(clip_record const& now) {
    auto const found = ids_.find(hash(now.video.name));
    if (found == ids_.end()) return 0;
    auto const then = index_->record(found->second);
    bool const same = then.video.name == now.video.name && then.refused.empty() &&  // what failed may have been mended
                      then.bytes == now.bytes && then.modified == now.modified && then.content_print != 0;
    return same && now.modified != 0 ? found->second : 0;  // a file that is not there has no time
  }
  clip_record record(std::int64_t id) { return index_->record(id); }
  std::size_t names() const { return ids_.size(); }
  /// How many of its names are not among these.
  std::size_t gone(clip_list const& clips) const {
    auto const knows = [&](clip const& each) { return ids_.contains(hash(each.name)); };
    return ids_.size() - static_cast<std::size_t>(std::ranges::count_if(clips, knows));
  }

 private:
  static std::size_t hash(std::string_view name) { return std::hash<std::string_view>()(name); }
  std::optional<clip_index> index_;
  std::unordered_map<std::size_t, std::int64_t> ids_;  ///< by the name's hash: names themselves would be large
};

/// One of ours, of whatever version, or so damaged that nobody knows.
bool is_index(fs::path const& file) try {
  if (!is_sql_database(file)) return false;
  sql_database index(file, sql_database::mode::read);
  return detail::has_tables(index, {"about", "clips"});
} catch (error const&) {
  return true;
}

/// An old list of failures: its first line is one.
bool is_failures(fs::path const& file) {
  std::string const begin = first_bytes(file, 1 << 16);
  json const line = json_if_any(begin.substr(0, begin.find('\n')));
  return line.is_object() && line.contains("file") && line.contains("why") && line.contains("scope");
}

bool same_place(fs::path const& a, fs::path const& b) {
  std::error_code unknown;
  return fs::weakly_canonical(a, unknown) == fs::weakly_canonical(b, unknown);
}

int index_run(index_options const& o) {
  index_settings const settings{.seconds = o.seconds, .content = !o.quick, .drop = flags_named(o.drop)};
  fs::path const out = o.out, unfinished = o.out + ".unfinished";
  fs::path const failures = o.failures.empty() ? o.out + ".failures.jsonl" : o.failures;
  if (o.out.empty() || fs::is_directory(out))
    throw setting_error({"--out", "the name of a file", o.out.empty() ? "nothing" : o.out + ", a folder"});
  for (auto const& other : o.sources)
    if (same_place(failures, other)) throw setting_error({"--failures", "a file of its own", other});
  if (same_place(failures, out)) throw setting_error({"--failures", "a file of its own", o.out});
  if (fs::is_regular_file(failures) && fs::file_size(failures) > 0 && !is_failures(failures))
    throw setting_error({"--failures " + failures.string(), "a new file, or an old one of failures", "another file"});
  constexpr auto needs_content =
      static_cast<std::uint32_t>(content_flag::silent) | static_cast<std::uint32_t>(content_flag::still);
  if (o.quick && (settings.drop & needs_content) != 0)
    throw setting_error({"--drop with --quick",
                         "copy, short, no-picture or no-sound: silence and standstill are not looked for",
                         "silent or static"});
  make_folder_of(out);
  make_folder_of(failures);
  auto const alone = file_lock::of_name(o.out + ".lock");
  if (alone.is_taken())
    throw setting_error({"--out " + o.out, "an index that no process writes", "another one at work on it"});
  set_listing const listing = list_of(o);
  clip_list const& clips = listing.clips;
  if (o.anew && fs::exists(out) && !is_index(out))
    throw setting_error({"--out", "a new file, or an index", o.out + ", another file"});
  if (o.anew) fs::remove(unfinished);
  if (is_begun_index(unfinished)) {
    index_settings const then = clip_index(unfinished).settings();
    if (then.probes != settings.probes)
      fs::remove(unfinished);  // of an earlier build
    else if (!then.same_probes(settings))
      throw setting_error(
          {"--clip-seconds and --quick",
           "those of the run that was interrupted (" + unfinished.string() + "), or --force to begin anew", "others"});
  }
  if (packed_clips::is_packed(out)) throw setting_error({"--out", "an index", o.out + ", a packed collection's"});
  memory before(o.anew ? fs::path() : out, settings), begun(unfinished, settings);
  std::size_t const gone = before.gone(clips);
  if (gone > before.names() / 2)
    throw media_error({o.out, text("most of the %zu videos that it knows, or --force to begin anew", before.names()),
                       text("%zu of them: is a disk missing?", before.names() - gone)});
  clip_index_writer found(unfinished, settings, clip_index_writer::mode::growing);

  // Where the record of each clip is: in `before` (> 0), in `begun` or `found` (< 0).
  std::vector<std::int64_t> where(clips.size());
  std::size_t known = 0, refused = 0, done_clips = 0;
  std::mutex one_at_a_time;
  interruption guard;
  progress bar(o, "videos", static_cast<double>(clips.size()));
  auto saved = std::chrono::steady_clock::now();
  std::atomic<bool> too_many = false;
  thread_team team(o.threads);
  team.run(clips.size(), [&](std::size_t i, std::size_t) {
    if (too_many || interruption::signal() != 0) return;
    clip_record r{.video = clips[i]};
    stamp_file(r);
    {
      std::lock_guard const lock(one_at_a_time);
      if (auto const id = begun.find(r))
        where[i] = -id;
      else
        where[i] = before.find(r);
    }
    bool const is_known = where[i] != 0;
    if (!is_known) r = probe_clip(std::move(r.video), settings);
    std::lock_guard const lock(one_at_a_time);
    if (is_known)
      r = where[i] < 0 ? begun.record(-where[i]) : before.record(where[i]);
    else
      where[i] = -found.add(r);
    known += is_known;
    if (!r.refused.empty()) {
      ++refused;
      if (!is_known) o.warn("refused " + r.refused);
      if (refused > o.most_failures) too_many = true;
    }
    bar.update(static_cast<double>(++done_clips), text("%zu refused", refused));
    if (auto const now = std::chrono::steady_clock::now(); now - saved > std::chrono::seconds(5)) {
      found.save();
      saved = now;
    }
  });
  bar.finish();
  found.commit();
  if (int const signal = interruption::signal()) {
    o.say(text("Interrupted after %zu of %zu videos; the same command (without --force) goes on from there", done_clips,
               clips.size()));
    return 128 + signal;
  }
  if (too_many)
    throw media_error({o.out, text("at most %zu files that are refused (--max-failures)", o.most_failures),
                       text("%zu; what was found is kept for the next run", refused)});

  clip_index made(unfinished);
  clip_index_writer index(out, settings, clip_index_writer::mode::whole);
  atomic_file complaints(failures);
  index_summary all;
  std::unordered_set<std::uint64_t> contents;
  for (std::size_t i = 0; i < clips.size(); ++i) {
    auto r = where[i] < 0 ? made.record(-where[i]) : before.record(where[i]);
    r.video = clips[i];  // its label may be another
    r.mark(content_flag::copy, r.refused.empty() && !contents.insert(r.content_print).second);
    index.add(r);
    all.add(r, settings.drop);
    if (!r.refused.empty()) complaints.write(refusal_line({r.video.name, r.refused, 0, true}));
  }
  for (auto const& each : listing.missing)
    complaints.write(refusal_line({each, "expected a video of this name, found none", 0, true}));
  bool const keeps_old = all.usable == 0 && fs::exists(out);
  if (!keeps_old) index.commit();
  complaints.commit();
  fs::remove(unfinished);

  o.answer(all.sentence(settings.drop));
  if (!listing.missing.empty())
    o.say(text("%zu of the list's %zu are not here; they are listed with the failures", listing.missing.size(),
               listing.listed));
  if (gone > 0) o.say(text("%zu that were known from before are not here any more", gone));
  if (known > 0) o.say(text("%zu were known from before and have not changed", known));
  if (all.refused > 0) o.say("Why they were refused is in " + failures.string());
  json document{{"out", o.out}};
  document.update(all.document());
  document["missing"] = listing.missing.size();
  document["known_before"] = known;
  document["gone"] = gone;
  document["failures"] = failures.string();
  o.print(document);
  return o.ended(all.usable, all.refused,
                 o.sources.front() + (o.sources.size() > 1 ? " and others" : "") + ": none of them can be used" +
                     (keeps_old ? "; " + o.out + " is what it was" : ""));
}

}  // namespace

work add_index(CLI::App& command) {
  auto const o = std::make_shared<index_options>();
  command.footer(
      "OUT is an SQLite database; all that take DATA read it, and probe folder, cluster and retrieval, distance and "
      "search.\n"
      "The same command brings it up to date:\n"
      "files whose size and time have not changed are not opened again, and an interrupted run goes on.\n"
      "Without a second of picture and sound a video is never usable. Exit code 3: some files were refused.\n"
      "Example:\n  l3 index videos --out videos.l3index --drop silent,static,copy\n"
      "  l3 index --dataset vggsound vggsound.csv --videos clips --split train --out train.l3index");
  command.add_option("sources", o->sources, "Folders, CSVs or lists of videos; with --dataset, the set's own list")
      ->required();
  command.add_option("--out", o->out, "Index to write, or to bring up to date")->required();
  add_clip_seconds(command, o->seconds, "Look only at");
  comma_list(command.add_option(
                 "--drop", o->drop,
                 "Leave out of training: silent, static (one picture all the time), copy (of a video before it)"))
      ->check(CLI::IsMember(flag_names()));
  command.add_flag("--quick", o->quick, "Decode nothing: silence and standstill are not looked for");
  command.add_option("--max-failures", o->most_failures, "End when more files than this are refused")
      ->default_str("no limit");
  command.add_option("--failures", o->failures, "Where to write why files were refused")
      ->default_str("OUT.failures.jsonl");
  command.add_flag("--force", o->anew, "Open all files again");
  command
      .add_option("--dataset", o->set.set, "A published set: flickr-soundnet, kinetics-sounds, audioset or vggsound")
      ->check(CLI::IsMember({"flickr-soundnet", "kinetics-sounds", "audioset", "vggsound"}));
  command.add_option("--videos", o->set.videos, "Folder of the set's files, in any sub-folders");
  command.add_option("--split", o->set.split, "all, train, valid or test of the set")
      ->check(CLI::IsMember({"all", "train", "valid", "test"}))
      ->capture_default_str();
  command.add_option("--classes", o->set.classes, "kinetics-sounds: a file with a class in each line")
      ->default_str("built-in");
  command.add_option("--subset", o->set.subset, "flickr-soundnet: so many of the list, at random; 0: all")
      ->capture_default_str();
  command.add_option("--seed", o->set.seed, "flickr-soundnet: of the subset and the splits")->capture_default_str();
  o->add_to(command);
  return [o, &command] {
    for (char const* of_set : {"--videos", "--split", "--classes", "--subset", "--seed"})
      if (o->set.set.empty() && command.count(of_set) > 0)
        throw setting_error({of_set, "--dataset, of which it says more", "none"});
    try {
      return index_run(*o);
    } catch (format_error const& e) {
      std::string const why = e.what();
      if (!why.starts_with(o->out + ".unfinished: ")) throw;
      throw format_error(why + " (--force begins anew)");
    }
  };
}

}  // namespace l3::program
