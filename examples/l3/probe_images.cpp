// l3 probe imagenet: how well one linear layer tells pictures apart by a network's features.
#include "probe_images.hpp"

#include <algorithm>
#include <cmath>
#include <l3/core/memory.hpp>
#include <l3/data/decode.hpp>
#include <l3/eval/confusion.hpp>
#include <l3/eval/standardise.hpp>
#include <l3/files/file_lock.hpp>
#include <l3/files/npz.hpp>
#include <l3/train/softmax_head.hpp>
#include <numeric>
#include <optional>

#include "charts.hpp"
#include "feature_rows.hpp"
#include "results_folder.hpp"

namespace l3::program {
namespace {

namespace fs = std::filesystem;

struct image_options : common_options {
  network_choice network;
  std::string train, val, out, pool = "grid", layer;
  std::size_t batch = 32, views = 4, epochs = 0, shots = 0, draws = 20;
  double learning_rate = 1e-3, weight_decay = 1e-4;
};

/// Rows of features in files of some thousands, which numpy reads; they are made once and stay, so that any number of
/// pictures needs the memory of one file, and an interrupted run goes on. Behind its rows a file has their CRC-32,
/// which numpy does not look at: a damaged one is made anew.
///
/// Row image * views + view. A picture that could not be read has rows of not-a-numbers.
class image_rows {
 public:
  image_rows(fs::path folder, std::size_t images, std::size_t views, std::size_t width)
      : folder_(std::move(folder)), images_(images), views_(views), width_(width) {}

  std::size_t images() const { return images_; }
  std::size_t views() const { return views_; }
  std::size_t width() const { return width_; }
  bool usable(std::size_t image) const { return usable_[image]; }

  /// Makes the files that are missing: `make(first, images, rows)` fills some pictures' views. Files of another `key`
  /// are of no use, and pictures that could not be read are tried again. Errors: setting_error: other files are there.
  template <class Make>
  void fill(std::string const& key, Make&& make, progress& bar) {
    make_folder(folder_);
    // For results of any --shots: one process makes them, others may then read them.
    lock_ = file_lock::of_folder(folder_);
    bool const makes = !lock_.is_taken();
    if (!makes) lock_ = file_lock::of_folder(folder_, true);
    auto const require = [&](bool free) {
      if (!free)
        throw setting_error({"--out, " + folder_.string(),
                             "features that no process makes, or the same that others read",
                             "another process at work on them"});
    };
    require(!lock_.is_taken());
    if (makes) detail::remove_leftovers(folder_, {});
    fs::path const note = folder_ / "key.json";
    bool const is_new = fs::is_empty(folder_);
    std::string const old = is_new || !fs::exists(note) ? "" : read_file(note, 1 << 20);
    if (json const ours = json_if_any(old); !is_new && !(ours.is_object() && ours.contains("pictures")))
      throw setting_error({"--out, " + folder_.string(), "features kept by an earlier run, or nothing", "other files"});
    if (old != key) {
      require(makes);
      for (std::size_t f = 0; f != files(); ++f) fs::remove(file(f));
      write_file(note, key);
    }
    usable_.resize(images_);
    std::vector<float> rows;
    for (std::size_t f = 0; f != files(); ++f) {
      std::size_t const first = f * together_, n = std::min(together_, images_ - first);
      rows.resize(n * views_ * width_);
      auto const of = [&](std::size_t k) { return std::span(rows).subspan(k * views_ * width_, views_ * width_); };
      bool changed = !take(f, rows);
      require(makes || !changed);
      if (changed)
        make(first, n, std::span<float>(rows));
      else if (makes)
        for (std::size_t k = 0; k != n; ++k)
          if (std::isnan(of(k)[0])) {
            make(first + k, 1, of(k)), changed |= !std::isnan(of(k)[0]);
            stop_if_signalled();
          }
      if (changed) put(f, rows), stop_if_signalled();
      for (std::size_t k = 0; k != n; ++k) usable_[first + k] = !std::isnan(of(k)[0]);
      bar.update(static_cast<double>(first + n), "");
    }
    if (makes) lock_.share();
  }

  void read(std::size_t image, std::size_t view, std::span<float> out) const {
    std::size_t const f = image / together_, row = image % together_ * views_ + view;
    detail::read_at(detail::open_to_read(file(f)), file(f), header(f).size() + row * width_ * sizeof(float),
                    std::as_writable_bytes(out));
  }

 private:
  /// False where there are none, or not those that were written.
  bool take(std::size_t f, std::span<float> rows) const {
    std::uint32_t crc = 0;
    if (!fs::exists(file(f)) || fs::file_size(file(f)) != header(f).size() + rows.size_bytes() + sizeof crc)
      return false;
    auto const in = detail::open_to_read(file(f));
    detail::read_at(in, file(f), header(f).size(), std::as_writable_bytes(rows));
    detail::read_at(in, file(f), header(f).size() + rows.size_bytes(), std::as_writable_bytes(std::span(&crc, 1)));
    return ffmpeg::crc32(std::as_bytes(rows)) == crc;
  }
  void put(std::size_t f, std::span<float const> rows) const {
    std::uint32_t const crc = ffmpeg::crc32(std::as_bytes(rows));
    atomic_file out(file(f));
    out.write(header(f));
    out.write(std::as_bytes(rows));
    out.write(std::as_bytes(std::span(&crc, 1)));
    out.commit();
  }
  static constexpr std::size_t together_ = 1024;  ///< pictures in a file
  std::size_t files() const { return (images_ + together_ - 1) / together_; }
  fs::path file(std::size_t f) const { return folder_ / text("%06zu.npy", f); }
  std::string header(std::size_t f) const {
    return detail::npy_header<float>({std::min(together_, images_ - f * together_) * views_, width_});
  }

  file_lock lock_;
  fs::path folder_;
  std::size_t images_, views_, width_;
  std::vector<bool> usable_;
};

/// How many of the tested pictures were told right.
struct image_score {
  std::size_t tested = 0, first = 0, among_five = 0;
  confusion_matrix confusion;
  double top1() const { return static_cast<double>(first) / static_cast<double>(std::max<std::size_t>(1, tested)); }
  double top5() const {
    return static_cast<double>(among_five) / static_cast<double>(std::max<std::size_t>(1, tested));
  }
};

class image_probe {
 public:
  image_probe(image_options const& o, labelled_set const& train, labelled_set const& val)
      : o_(o), train_(train), val_(val), of_(o.network.open(o.threads)), on_(o.threads) {
    which_ = feature_named(o.layer, o.pool, of_.net->facts());
    of_.net->prepare_inference(o.batch);
    std::size_t const width = of_.net->width_of(modality::frame, which_);
    rows_.emplace(fs::path(o.out) / "train", train.files.size(), o.views, width);
    tests_.emplace(fs::path(o.out) / "val", val.files.size(), 1, width);
    fill(*rows_, train, true);
    fill(*tests_, val, false);
  }

  chosen_network const& network() const { return of_; }
  feature which() const { return which_; }
  std::size_t width() const { return rows_->width(); }
  std::vector<std::string> const& refused() const { return refused_; }
  double seconds() const { return seconds_; }

  /// Trains on these pictures and tests on all. `draw` keeps the random numbers of several runs apart.
  image_score run(std::vector<std::size_t> const& pictures, std::uint64_t draw, progress* bar) {
    std::size_t const d = width(), classes = train_.classes.size(), batch = std::min(batch_size, pictures.size());
    standardiser const scale(d, [&](auto&& visit) {
      std::vector<float> row(d);
      for (std::size_t const p : pictures)
        for (std::size_t v = 0; v != o_.views; ++v) rows_->read(p, v, row), visit(row.data());
    });
    softmax_head<cpu> head(on_, d, classes, batch_size);
    head.initialise(o_.network.seed, 1000 + draw);
    std::size_t const epochs = epochs_of(pictures.size());
    double const last = steps(pictures.size());
    std::vector<std::size_t> order = pictures;
    std::vector<float> x(batch * d);
    std::vector<std::int32_t> labels;
    std::uint64_t step = 0;
    for (std::size_t epoch = 0; epoch != epochs; ++epoch) {
      shuffle(order, o_.network.seed, stream::user, (draw << 32) | epoch);
      for (std::size_t first = 0; first < order.size(); first += batch) {
        std::size_t const n = std::min(batch, order.size() - first);
        labels.clear();
        for (std::size_t k = 0; k != n; ++k) {
          auto const row = std::span(x).subspan(k * d, d);
          rows_->read(order[first + k], epoch % o_.views, row);
          scale(row.data(), row.data());
          labels.push_back(train_.files[order[first + k]].label);
        }
        class_score const score = head.forward(on_, x.data(), labels);
        if (!std::isfinite(score.loss))
          throw numeric_error({"loss of the layer in step " + std::to_string(step + 1), "a finite number",
                               std::to_string(score.loss) + " (a lower --lr?)"});
        head.backward(on_, n, x.data(), nullptr);
        ++step;  // the learning rate falls in a straight line
        head.step(on_, {.learning_rate = o_.learning_rate * (1 - static_cast<double>(step - 1) / last),
                        .weight_decay = o_.weight_decay,
                        .step = step});
        if (bar != nullptr) bar->update(static_cast<double>(step), text("loss %.3f", score.loss));
      }
      stop_if_signalled();
    }
    return test(head, scale);
  }
  /// Steps that run() takes on so many pictures.
  double steps(std::size_t pictures) const {
    return static_cast<double>(steps_of_epoch(pictures) * epochs_of(pictures));
  }

  /// Pictures to test on that could be read.
  std::size_t testable() const {
    std::size_t n = 0;
    for (std::size_t p = 0; p != val_.files.size(); ++p) n += tests_->usable(p);
    return n;
  }
  /// Pictures to train on: all that could be read. Errors: format_error: none of some class.
  std::vector<std::size_t> all() const {
    std::vector<std::size_t> pictures;
    for (std::size_t p = 0; p != train_.files.size(); ++p)
      if (rows_->usable(p)) pictures.push_back(p);
    std::vector<bool> taught(train_.classes.size());
    for (std::size_t const p : pictures) taught[static_cast<std::size_t>(train_.files[p].label)] = true;
    auto const gap = std::find(taught.begin(), taught.end(), false);
    if (gap != taught.end())
      throw format_error({o_.train, "pictures of every class that can be read",
                          "none of '" + train_.classes[static_cast<std::size_t>(gap - taught.begin())] + "'"});
    return pictures;
  }
  /// So many of each class, drawn anew for each `draw`.
  std::vector<std::size_t> some(std::size_t shots, std::uint64_t draw) const {
    std::vector<std::vector<std::size_t>> of_class(train_.classes.size());
    for (std::size_t const p : all()) of_class[static_cast<std::size_t>(train_.files[p].label)].push_back(p);
    std::vector<std::size_t> pictures;
    for (std::size_t c = 0; c != of_class.size(); ++c) {
      auto& mine = of_class[c];
      if (mine.size() < shots)
        throw format_error({o_.train, std::to_string(shots) + " pictures of class '" + train_.classes[c] + "'",
                            std::to_string(mine.size())});
      for (std::size_t k = 0; k != shots; ++k) {
        generator random(o_.network.seed, stream::split, draw << 32 | c, static_cast<std::uint32_t>(k));
        std::swap(mine[k], mine[k + random.below(static_cast<std::uint32_t>(mine.size() - k))]);
        pictures.push_back(mine[k]);
      }
    }
    return pictures;
  }

 private:
  static constexpr std::size_t batch_size = 256;
  static std::size_t steps_of_epoch(std::size_t pictures) { return (pictures + batch_size - 1) / batch_size; }
  /// Few pictures: as many passes as make 1500 steps.
  std::size_t epochs_of(std::size_t pictures) const {
    return o_.epochs != 0 ? o_.epochs : std::max<std::size_t>(30, 1500 / steps_of_epoch(pictures));
  }

  void fill(image_rows& rows, labelled_set const& set, bool random) {
    std::string const key = json{{"network", of_.identity},
                                 {"layer", name_of(which_)},
                                 {"scaling", picture_scaling},
                                 {"views", random ? json(rows.views()) : json("centre")},
                                 {"seed", random ? json(o_.network.seed) : json()},
                                 {"pictures", set.files.size()},
                                 {"fingerprint", files_print(set, false)}}
                                .dump();
    progress bar(o_, "pictures", static_cast<double>(set.files.size()));
    rows.fill(
        key, [&](std::size_t first, std::size_t n, std::span<float> out) { embed(rows, set, random, first, n, out); },
        bar);
    bar.finish();
    seconds_ += bar.seconds();
    for (std::size_t p = 0; p != set.files.size(); ++p)
      if (!rows.usable(p)) refused_.push_back(set.files[p].file.string());
  }

  /// Features of pictures [first, first + n), decoded side by side, a batch at a time.
  void embed(image_rows const& rows, labelled_set const& set, bool random, std::size_t first, std::size_t n,
             std::span<float> out) {
    std::size_t const size = of_.input->frame_size(), views = rows.views(), width = rows.width();
    std::vector<float> frames(o_.batch * size);
    std::vector<std::string> why(n * views);  // of each view: those of a picture are made side by side
    auto const one = [&](std::size_t row, std::span<float> to) {  // a view of a picture
      std::size_t const p = first + row / views;
      try {
        clip_reader reader(set.files[p].file);
        auto const picture = reader.frame(0, of_.input->frame_side());
        if (random)
          of_.input->random_view(
              picture, generator(o_.network.seed, stream::image, p, static_cast<std::uint32_t>(row % views)), to);
        else
          of_.input->picture(picture, to);
      } catch (error const& e) {
        require_memory_left();
        why[row] = e.what();
      }
    };
    for (std::size_t row = 0; row < n * views; row += o_.batch) {
      std::size_t const count = std::min(o_.batch, n * views - row);
      on_.team().run(count,
                     [&](std::size_t k, std::size_t) { one(row + k, std::span(frames).subspan(k * size, size)); });
      of_.net->embed(modality::frame, which_, std::span(frames).first(count * size), count, out.subspan(row * width));
    }
    for (std::size_t k = 0; k != n; ++k) {
      auto const mine = std::span(why).subspan(k * views, views);
      auto const bad = std::find_if(mine.begin(), mine.end(), [](std::string const& w) { return !w.empty(); });
      if (bad == mine.end()) continue;
      o_.warn("refused " + *bad);
      std::fill_n(out.data() + k * views * width, views * width, std::numeric_limits<float>::quiet_NaN());
    }
  }

  image_score test(softmax_head<cpu>& head, standardiser const& scale) {
    std::size_t const d = width(), classes = train_.classes.size();
    image_score r{.confusion = confusion_matrix(classes)};
    std::vector<float> row(d), scores(classes);
    for (std::size_t p = 0; p != val_.files.size(); ++p) {
      if (!tests_->usable(p)) continue;
      tests_->read(p, 0, row);
      scale(row.data(), row.data());
      head.scores(on_, 1, row.data(), scores.data());
      auto const label = static_cast<std::size_t>(val_.files[p].label);
      if (!std::all_of(scores.begin(), scores.end(), [](float x) { return std::isfinite(x); }))
        throw numeric_error({"scores of " + val_.files[p].file.string(), "finite numbers", "others"});
      auto const predicted = static_cast<std::size_t>(std::max_element(scores.begin(), scores.end()) - scores.begin());
      auto const before = static_cast<std::size_t>(std::count_if(scores.begin(), scores.end(),
                                                                 [&](float x) { return x >= scores[label]; })) -
                          1;  // a tie is a miss
      ++r.tested;
      r.first += before == 0, r.among_five += before < 5;
      r.confusion.add(label, predicted);
    }
    return r;
  }

  image_options const& o_;
  labelled_set const &train_, &val_;
  chosen_network of_;
  context<cpu> on_;
  feature which_;
  std::optional<image_rows> rows_, tests_;
  std::vector<std::string> refused_;
  double seconds_ = 0;
};

int image_run(image_options const& o) {
  results_folder const results(o.out, "images", {"confusion.csv", "confusion.svg"},
                               o.shots == 0 ? "" : text("%zu-shot-", o.shots));
  interruption guard;
  auto const pictures = [](fs::path const& f) { return suits_embedding(f, "image"); };
  labelled_set const train = read_class_folders(o.train, pictures);
  labelled_set const val = read_class_folders(o.val, pictures, &train.classes);
  if (auto const both = files_of_both(train, val); !both.empty())
    throw format_error({"--val " + o.val, "other pictures than those of --train", both.front()});
  image_probe probe(o, train, val);
  if (probe.testable() == 0) throw media_error({o.val, "pictures that can be read", "none"});
  o.say(text("%zu pictures of %zu classes to learn from, %zu to test; %s, %s", train.files.size(), train.classes.size(),
             val.files.size(), probe.network().identity.c_str(), name_of(probe.which()).c_str()));
  json result{{"kind", "images"},
              {"set", o.train},
              {"set_print", hex(train.print() ^ val.print() << 1)},
              {"model", probe.network().net->facts().name},
              {"network", probe.network().identity},
              {"trained", probe.network().trained},
              {"layer", name_of(probe.which())},
              {"width", probe.width()},
              {"views", o.views},
              {"settings",
               {{"epochs", o.epochs},
                {"lr", o.learning_rate},
                {"weight_decay", o.weight_decay},
                {"draws", o.shots == 0 ? 0 : o.draws}}},
              {"chance", 1 / static_cast<double>(train.classes.size())},
              {"seconds_features", probe.seconds()}};
  char const* const what = probe.network().trained ? "learned" : "random weights";
  confusion_matrix confusion(train.classes.size());
  if (o.shots == 0) {
    auto const all = probe.all();
    progress bar(o, "steps", probe.steps(all.size()));
    image_score const r = probe.run(all, 0, &bar);
    bar.finish();
    confusion.add(r.confusion);
    o.answer(text("%s: top-1 %.4f, top-5 %.4f of %zu pictures (chance %.4f)", what, r.top1(), r.top5(), r.tested,
                  1 / static_cast<double>(train.classes.size())));
    result.update({{"top1", r.top1()}, {"top5", r.top5()}, {"tested", r.tested}, {"seconds_layer", bar.seconds()}});
  } else {
    progress bar(o, "draws", static_cast<double>(o.draws));
    double mean = 0, five = 0, square = 0;
    json each = json::array();
    for (std::size_t draw = 0; draw != o.draws; ++draw) {
      image_score const r = probe.run(probe.some(o.shots, draw), draw + 1, nullptr);
      confusion.add(r.confusion);
      each.push_back(r.top1());
      mean += r.top1(), five += r.top5(), square += r.top1() * r.top1();
      bar.update(static_cast<double>(draw + 1), text("top-1 %.3f", mean / static_cast<double>(draw + 1)));
    }
    bar.finish();
    auto const n = static_cast<double>(o.draws);
    mean /= n, five /= n;
    std::optional<double> deviation;  // of one draw there is none
    if (o.draws > 1) deviation = std::sqrt(std::max(0.0, square / n - mean * mean) * n / (n - 1));
    o.answer(text("%s, %zu pictures a class, %zu draws: top-1 %.4f%s, top-5 %.4f (chance %.4f)", what, o.shots, o.draws,
                  mean, deviation ? text(" (deviation %.4f)", *deviation).c_str() : "", five,
                  1 / static_cast<double>(train.classes.size())));
    result.update({{"shots", o.shots},
                   {"top1", mean},
                   {"deviation", deviation ? json(*deviation) : json()},
                   {"top5", five},
                   {"draws", each},
                   {"seconds_layer", bar.seconds()}});
  }
  if (!probe.refused().empty()) o.warn(text("%zu pictures were refused and are in no figure", probe.refused().size()));
  result["refused"] = probe.refused();
  results.begin();
  write_file(results.file("confusion.csv"), confusion_table(confusion, train.classes));
  write_file(results.file("confusion.svg"), confusion_chart(confusion, train.classes));
  results.end(result);
  o.print(result);
  return probe.refused().empty() ? done : some_refused;
}

}  // namespace

work add_image_probe(CLI::App& command) {
  auto const o = std::make_shared<image_options>();
  o->network.add_to(command, true);
  command.add_option("--train", o->train, "Folder with a folder of pictures for each class")->required();
  command.add_option("--val", o->val, "The same, to test on")->required();
  command.add_option("--out,-o", o->out, "Folder for the results; features are kept there for the next time")
      ->required();
  add_layer(command, o->pool, o->layer);
  command.add_option("--views", o->views, "Random crops, mirrored or not, of each picture to learn from")
      ->capture_default_str()
      ->check(CLI::Range(1, 1000).description(""));
  command.add_option("--epochs", o->epochs, "Passes over the pictures, a view each; 0: 30, or for few pictures more")
      ->capture_default_str();
  command.add_option("--lr", o->learning_rate, "Learning rate at the beginning; it falls to 0 in a straight line")
      ->capture_default_str()
      ->check(above_zero);
  command.add_option("--weight-decay", o->weight_decay, "L2 on the layer's weights")
      ->capture_default_str()
      ->check(zero_or_more);
  auto* const shots = command.add_option("--shots", o->shots, "Learn from so many pictures a class alone; 0: from all")
                          ->capture_default_str();
  command.add_option("--draws", o->draws, "With --shots: how often pictures are drawn; the mean counts")
      ->capture_default_str()
      ->check(CLI::Range(1, 10000).description(""))
      ->needs(shots);
  command.add_option("--batch", o->batch, "Pictures embedded at a time; does not change the features")
      ->capture_default_str()
      ->check(above_zero);
  command.footer(
      "Example:\n  l3 probe imagenet --train imagenet/train --val imagenet/val --checkpoint run/best.safetensors"
      " --out run/probe/imagenet");
  o->add_to(command);
  return [o] { return image_run(*o); };
}

}  // namespace l3::program
