// l3 distance: how far apart two collections of sounds or pictures are.
#include <l3/core/context.hpp>
#include <l3/eval/frechet.hpp>

#include "feature_rows.hpp"
#include "results_folder.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct distance_options : feature_options {
  std::string what, data, reference;
  std::size_t halvings = 8;
};

/// A collection and its features.
struct collection_rows {
  labelled_set set;
  feature_rows rows;

  std::size_t files() const { return set.files.size() - rows.refused.size(); }
  grouped_rows grouped() const { return {rows.values, rows.width, rows.first}; }
  json facts(std::string const& source) const {
    return {{"data", source}, {"files", files()}, {"rows", rows.count()}, {"refused", refused_files(set, rows)}};
  }
};

int distance_run(distance_options const& o) {
  fs::path const out = o.out;
  modality const what = modality_named(o.what);
  auto const files_of = [&](std::string const& source) {
    return read_files(source, [&](fs::path const& f) { return suits_embedding(f, o.what); });
  };
  collection_rows reference{files_of(o.reference), {}}, data{files_of(o.data), {}};
  if (auto const both = files_of_both(reference.set, data.set); !both.empty())
    o.warn(text("%zu files are of both collections, %s first: the distance is too small", both.size(),
                both.front().c_str()));
  chosen_network const network = o.network.open(o.threads);
  auto const settings = o.settings(network);
  results_folder const results(out, "distance");
  auto const read = [&](collection_rows& to, std::string const& source, char const* cache) {
    o.say(text("%s: %zu files", source.c_str(), to.set.files.size()));
    to.rows = read_features(o, to.set, what, network, settings, out / cache);
    if (to.rows.count() < 2)
      throw media_error({source, "at least two rows of features, a second of sound or a picture each",
                         std::to_string(to.rows.count())});
  };
  read(reference, o.reference, "reference.safetensors");
  read(data, o.data, "features.safetensors");

  thread_team team(o.threads);
  collection_distance const apart =
      frechet_of_collections(team, data.grouped(), reference.grouped(), o.halvings, o.network.seed);
  o.answer(text("Frechet distance %.6g: %zu files (%zu rows of %zu numbers) from %zu (%zu)", apart.distance,
                data.files(), data.rows.count(), data.rows.width, reference.files(), reference.rows.count()));
  if (apart.endless)
    o.answer(text("with endlessly many files about %.6g (of halves %.6g)", *apart.endless, apart.halves));
  if (std::size_t const fewest = std::min(data.files(), reference.files()); fewest < data.rows.width)
    o.warn(text("%zu files are fewer than a row has numbers, %zu: much of the distance comes of that%s", fewest,
                data.rows.width, apart.endless ? ", and some of the estimate" : ""));
  else if (apart.endless && *apart.endless < apart.distance / 2)
    o.warn("more than half of the distance comes of there being few files");
  json const result{{"kind", "distance"},
                    {"what", o.what},
                    {"network", network.identity},
                    {"trained", network.trained},
                    {"layer", name_of(settings.which)},
                    {"width", data.rows.width},
                    {"hop", o.hop},
                    {"short", o.fill},
                    {"halvings", o.halvings},
                    {"seed", o.network.seed},
                    {"reference", reference.facts(o.reference)},
                    {"of", data.facts(o.data)},
                    {"distance", apart.distance},
                    {"endless", apart.endless ? json(*apart.endless) : json()},
                    {"halves", apart.endless ? json(apart.halves) : json()},
                    {"halves_deviation", apart.endless ? json(apart.halves_deviation) : json()}};
  results.end(result);
  o.print(result);
  return data.rows.refused.empty() && reference.rows.refused.empty() ? done : some_refused;
}

}  // namespace

work add_distance(CLI::App& command) {
  auto const o = std::make_shared<distance_options>();
  o->pool = "global";
  command.add_option("what", o->what, "audio or image")->required()->check(CLI::IsMember({"audio", "image"}));
  command.add_option("data", o->data, "Folder, searched below, table with a column path, or index: what is judged")
      ->required();
  command.add_option("--reference", o->reference, "The same of what it is held against")->required();
  command
      .add_option("--halvings", o->halvings,
                  "Times that both are halved to tell what the distance of endlessly many files would be; 0: not told")
      ->capture_default_str()
      ->check(CLI::Range(0, 1000).description(""));
  o->add_to(command);
  command.footer(
      "Of sounds this is the Frechet audio distance, of these embeddings.\n"
      "Example:\n  l3 distance audio made --reference recorded --checkpoint run/best.safetensors --out run/distance");
  return interruptible([o] { return distance_run(*o); });
}

}  // namespace l3::program
