// Networks in use on a GPU, for inputs and results in the machine's memory.
#include <l3/model/hosted_classifier.cuh>
#include <l3/model/hosted_inference.cuh>
#include <l3/model/hosted_sliding.cuh>

#include "../support/device.hpp"
#include "../support/micro.hpp"

namespace {
using namespace l3;
using namespace l3::test;

/// As micro, with a front end that a GPU computes.
struct listening : micro {
  static constexpr char const* name = "listening";
  using front_end = coarse_front_end;
};
constexpr std::size_t hosted_items = 5;

/// Items of both kinds in both forms; of these the values are what the GPU makes of the others.
template <class Network>
struct hosted_batch {
  using user = hosted_inference<Network>;
  tensor<std::uint8_t, typename Network::frame> crops{hosted_items};
  tensor<float, features<48000>> seconds{hosted_items};
  std::vector<image_jitter> jitters{hosted_items};
  std::vector<float> volumes = std::vector<float>(hosted_items, 1.0f);
  tensor<float, typename Network::frame> frames{hosted_items};
  tensor<float, typename Network::sound> sounds{hosted_items};

  explicit hosted_batch(std::uint64_t seed) {
    std::uint32_t index = 0;
    for (auto& byte : crops.values())
      byte = static_cast<std::uint8_t>(generator(seed, stream::user, 0, index++).below(256));
    for (auto& x : seconds.values()) x = static_cast<float>(0.1 * generator(seed, stream::user, 1, index++).normal());
    for (std::size_t k = 0; k < crops.values().size(); ++k)
      frames.values()[k] = (2 * static_cast<float>(crops.values()[k]) - 255) / 255;
    context<cuda<fp32>> on;
    gpu_spectrogram<typename Network::config::front_end, fp32> const ear(on);
    on_device<float> out(sounds.values().size());
    ear(on, hosted_items, copied<float>(on, seconds.values()), copied<float>(on, volumes), out);
    auto const made = out.values(on);
    std::copy(made.begin(), made.end(), sounds.data());
  }
  typename user::frames_in::raw_view raw_frames(std::size_t n = hosted_items) const {
    return {crops.view().slice(0, n), std::span(jitters).first(n)};
  }
  typename user::sounds_in::raw_view raw_sounds(std::size_t n = hosted_items) const {
    return {seconds.view().slice(0, n), std::span(volumes).first(n)};
  }
};

template <class Shape, class F>
std::vector<float> results(std::size_t count, F const& f) {
  tensor<float, Shape> y(count);
  f(y.view());
  return {y.values().begin(), y.values().end()};
}
float furthest(std::vector<float> const& a, std::vector<float> const& b) {
  REQUIRE(a.size() == b.size());
  float most = 0, scale = 1e-6f;
  for (std::size_t k = 0; k < a.size(); ++k)
    most = std::max(most, std::abs(a[k] - b[k])), scale = std::max(scale, std::abs(b[k]));
  return most / scale;
}

template <class P>
void check_regions(region_dims const& d) {
  context<cuda<P>> on;
  std::vector<float> x(d.batch * d.height * d.width * d.channels);
  for (std::size_t k = 0; k < x.size(); ++k)
    x[k] = static_cast<float>(
        narrowed<value_of<cuda<P>>>(generator(9, stream::user, 0, static_cast<std::uint32_t>(k)).uniform(-2, 1)));
  x[x.size() / 2] = std::numeric_limits<float>::quiet_NaN();
  x[1] = -std::numeric_limits<float>::infinity();
  auto const found = both_orders([&] {
    on_device<value_of<cuda<P>>> in(x);
    on_device<float> out(d.regions() * d.channels);
    pool_regions(on, d, static_cast<value_of<cuda<P>> const*>(in.data()), out.data());
    return out.values(on);
  });
  std::vector<float> expected(found.size());
  pool_regions(d, x.data(), expected.data());
  std::size_t none = 0;
  for (std::size_t k = 0; k < found.size(); ++k) {
    none += std::isnan(expected[k]);
    CHECK((found[k] == expected[k] || (std::isnan(found[k]) && std::isnan(expected[k]))));
  }
  CHECK(none > 0);
}
}  // namespace

TEST_CASE("regions of a map on a GPU keep their largest values") {
  if (!has_gpu()) return;
  for (region_dims const& d :
       {region_dims{3, 28, 28, 64, {4, 4}}, region_dims{2, 32, 24, 24, {4, 3}}, region_dims{2, 13, 9, 5, {4, 3}},
        region_dims{3, 31, 29, 16, {}}, region_dims{2, 2, 3, 8, {4, 4}}, region_dims{1, 7, 5, 3, {}}}) {
    CAPTURE(d.height, d.width, d.channels, d.grid.height);
    check_regions<fp32>(d);
    check_regions<bf16>(d);
  }
}

TEST_CASE("the paper's regions have equal kernels and strides") {
  // Section 4.2: of 28 x 28 maps of pictures 7 x 7 to each of 4 x 4, of 32 x 24 of sounds 8 x 8 to each of 4 x 3.
  CHECK((region_dims::begin(1, 4, 28) == 7 && region_dims::end(1, 4, 28) == 14));
  CHECK((region_dims::begin(2, 3, 24) == 16 && region_dims::end(2, 3, 24) == 24));
  CHECK((region_dims::begin(1, 4, 14) == 3 && region_dims::end(1, 4, 14) == 7));
  CHECK((region_dims::begin(3, 4, 2) == 1 && region_dims::end(3, 4, 2) == 2));
}

TEMPLATE_TEST_CASE("a network on a GPU makes the same of values and of bytes", "", fp32, bf16) {
  if (!has_gpu()) return;
  using network = l3_network<cuda<TestType>, listening>;
  using plain_network = l3_network<reference<float>, listening>;
  using user = hosted_inference<network>;
  using embedding = typename network::embedding;
  context<cuda<TestType>> on;
  context<reference<float>> host(1);
  network net;
  plain_network plain;
  net.initialise(3), plain.initialise(3);
  user u(on, net, hosted_items);
  inference<plain_network> expected(host, plain, hosted_items);
  hosted_batch<network> const b(1);
  float const near = std::is_same_v<TestType, fp32> ? 1e-4f : 3e-2f;
  std::size_t const few = 3;

  auto const seen = results<embedding>(hosted_items, [&](auto y) { u.embed_frames(b.frames.view(), y); });
  CHECK(seen == results<embedding>(hosted_items, [&](auto y) { u.embed_frames(b.raw_frames(), y); }));
  CHECK(furthest(seen, results<embedding>(hosted_items, [&](auto y) { expected.embed_frames(b.frames.view(), y); })) <
        near);
  auto const heard = results<embedding>(hosted_items, [&](auto y) { u.embed_sounds(b.sounds.view(), y); });
  CHECK(heard == results<embedding>(hosted_items, [&](auto y) { u.embed_sounds(b.raw_sounds(), y); }));
  CHECK(furthest(heard, results<embedding>(hosted_items, [&](auto y) { expected.embed_sounds(b.sounds.view(), y); })) <
        near);
  CHECK(std::vector<float>(heard.begin(), heard.begin() + static_cast<std::ptrdiff_t>(few * embedding::size)) ==
        results<embedding>(few, [&](auto y) { u.embed_sounds(b.raw_sounds(few), y); }));

  using two = features<2>;
  auto const scores = results<two>(hosted_items, [&](auto y) { u.score(b.frames.view(), b.sounds.view(), y); });
  CHECK(scores == results<two>(hosted_items, [&](auto y) { u.score(b.raw_frames(), b.raw_sounds(), y); }));
  CHECK(furthest(scores, results<two>(hosted_items,
                                      [&](auto y) { expected.score(b.frames.view(), b.sounds.view(), y); })) < near);
  tensor<float, embedding> v(hosted_items), a(hosted_items);
  std::copy(seen.begin(), seen.end(), v.data());
  std::copy(heard.begin(), heard.end(), a.data());
  CHECK(scores == results<two>(hosted_items, [&](auto y) { u.score_features(v.view(), a.view(), y); }));

  // Regions are those of the maps.
  using map = typename user::vision_map::output;
  auto const maps = results<map>(hosted_items, [&](auto y) { u.map_frames(b.frames.view(), y); });
  CHECK(furthest(maps, results<map>(hosted_items, [&](auto y) { expected.map_frames(b.frames.view(), y); })) < near);
  extent2 const grid{2, 3};
  region_dims const d{hosted_items, map::height, map::width, map::channels, grid};
  std::vector<float> pooled(d.regions() * d.channels), found(pooled.size());
  pool_regions(d, maps.data(), pooled.data());
  auto const make = [](auto& inside, auto x, auto y) { inside.map_frames(x, y); };
  u.template begin_regions<map>(b.raw_frames(), grid, make);
  u.finish(found);
  CHECK(found == pooled);
  user narrow(on, net, hosted_items, 2 * map::size * sizeof(value_of<cuda<TestType>>));  // room for two maps
  found.assign(found.size(), 0.0f);
  narrow.template begin_regions<map>(b.raw_frames(), grid, make);
  narrow.finish(found);
  CHECK(found == pooled);
  CHECK(maps == results<map>(hosted_items, [&](auto y) { narrow.map_frames(b.frames.view(), y); }));
  using first_map = typename user::template audio_blocks<1>::output;
  found.resize(hosted_items * first_map::channels);
  u.template begin_regions<first_map>(b.raw_sounds(), {},
                                      [](auto& inside, auto x, auto y) { inside.template pool_sounds<1>(x, y); });
  u.finish(found);
  tensor<float, first_map> first(hosted_items);
  expected.template pool_sounds<1>(b.sounds.view(), first.view());
  std::vector<float> by_loops(found.size());
  pool_regions({hosted_items, first_map::height, first_map::width, first_map::channels, {}}, first.data(),
               by_loops.data());
  CHECK(furthest(found, by_loops) < near);
}

TEST_CASE("requests to a GPU are begun ahead, and their results fetched in order") {
  if (!has_gpu()) return;
  using network = l3_network<cuda<bf16>, listening>;
  using embedding = typename network::embedding;
  auto const in_turn = [](std::size_t ahead) {
    context<cuda<bf16>> on;
    network net;
    net.initialise(3);
    hosted_inference<network> u(on, net, hosted_items);
    std::vector<std::vector<float>> all;
    auto const fetch = [&](std::size_t floats) {
      all.emplace_back(floats);
      u.finish(all.back());
    };
    hosted_batch<network> const seen(1), heard(2);
    std::size_t const row = embedding::size;
    for (int round = 0; round < 3; ++round) {
      hosted_batch<network> passing = round == 1 ? hosted_batch<network>(1) : hosted_batch<network>(2);
      u.begin_embed(passing.raw_frames());
      std::fill(passing.crops.values().begin(), passing.crops.values().end(), std::uint8_t{0});  // sent already
      if (ahead == 1) fetch(hosted_items * row);
      u.begin_embed(heard.raw_sounds(2));
      if (ahead == 1) fetch(2 * row);
      if (ahead == 2) {
        CHECK(u.in_flight() == 2);
        CHECK_THROWS_AS(u.begin_embed(seen.raw_frames()), setting_error);
        tensor<float, embedding> waiting(hosted_items);
        CHECK_THROWS_AS(u.embed_frames(seen.raw_frames(), waiting.view()), setting_error);
        std::vector<float> wrong(3);
        CHECK_THROWS_AS(u.finish(wrong), shape_error);
        fetch(hosted_items * row), fetch(2 * row);
      }
    }
    std::vector<float> nothing;
    CHECK_THROWS_AS(u.finish(nothing), setting_error);
    return all;
  };
  auto const one = in_turn(1);
  CHECK(one == in_turn(2));
  CHECK(one[0] == one[4]);
  CHECK(one[0] != one[2]);
}

TEST_CASE("a network on a GPU refuses what does not fit, and takes new weights") {
  if (!has_gpu()) return;
  using network = l3_network<cuda<fp32>, listening>;
  context<cuda<fp32>> on;
  network net, other;
  net.initialise(3), other.initialise(4);
  hosted_inference<network> u(on, net, 2);
  hosted_batch<network> b(1);
  tensor<float, network::embedding> y(hosted_items);
  CHECK_THROWS_AS(u.embed_frames(b.raw_frames(), y.view()), shape_error);
  CHECK_THROWS_AS(u.embed_sounds(b.sounds.view(), y.view()), shape_error);
  tensor<float, network::embedding> fewer(1);
  CHECK_THROWS_AS(u.embed_frames(b.raw_frames(2), fewer.view()), shape_error);
  tensor<float, hosted_inference<network>::vision_map::output> fewer_maps(1);
  CHECK_THROWS_AS(u.map_frames(b.frames.view().slice(0, 2), fewer_maps.view()), shape_error);
  auto torn = b.raw_frames(2);
  torn.jitters = torn.jitters.first(1);
  CHECK_THROWS_AS(u.begin_embed(torn), shape_error);
  tensor<float, features<2>> logits(2), one(1);
  for (int k = 0; k < 2; ++k) u.score(b.raw_frames(1), b.raw_sounds(1), one.view());  // room for its results,
  u.score(b.raw_frames(2), b.raw_sounds(2), logits.view());                           // and then for more
  CHECK(logits.view()[0][0] == one.view()[0][0]);
  CHECK_THROWS_AS(u.score(b.raw_frames(2), b.raw_sounds(1), logits.view()), shape_error);
  CHECK_THROWS_AS(u.score(b.raw_frames(1), b.raw_sounds(1), logits.view()), shape_error);
  CHECK(u.in_flight() == 0);
  auto const before = results<network::embedding>(2, [&](auto out) { u.embed_frames(b.raw_frames(2), out); });
  u.refresh(other);
  auto const after = results<network::embedding>(2, [&](auto out) { u.embed_frames(b.raw_frames(2), out); });
  CHECK(before != after);
  u.refresh(net);
  CHECK(before == results<network::embedding>(2, [&](auto out) { u.embed_frames(b.raw_frames(2), out); }));
}

TEST_CASE("a classifier in use on a GPU makes the same of values and of bytes") {
  if (!has_gpu()) return;
  using both = l3_network<cuda<bf16>, listening>;
  hosted_batch<both> const b(1);
  context<cuda<bf16>> on;
  std::size_t const classes = 4;
  std::vector<float> values(hosted_items * classes), bytes(values);
  auto const check = [&](auto net, auto const& as_values, auto const& as_bytes) {
    using network = decltype(net);
    net.initialise(3);
    std::vector<float> weights(classes * network::hidden::size), biases(classes, 0.5f);
    for (std::size_t k = 0; k < weights.size(); ++k) weights[k] = 0.01f * static_cast<float>(k % 17) - 0.08f;
    hosted_classifier<network> user(on, net, weights, biases, hosted_items);
    user.scores(as_values, values);
    user.scores(as_bytes, bytes);
    CHECK(values == bytes);
    user.refresh(net, weights, std::vector<float>{0.5f, 1.5f, 0.5f, -3.5f});
    user.scores(as_values, bytes);
    for (std::size_t k = 0; k < values.size(); ++k)
      CHECK(bytes[k] - values[k] == Approx(k % 4 == 1 ? 1 : k % 4 == 3 ? -4 : 0).margin(1e-4));
    CHECK(std::any_of(values.begin(), values.end(), [&](float x) { return x != values[0]; }));
  };
  check(trunk_classifier<cuda<bf16>, vision_of<listening>>(), b.frames.view(), b.raw_frames());
  check(trunk_classifier<cuda<bf16>, audio_of<listening>>(), b.sounds.view(), b.raw_sounds());
}

namespace {
/// Largest difference between windows of one sound computed together and one by one on a GPU, features and regions of
/// maps, relative to the largest value.
template <class P>
float strays(std::size_t hop, std::size_t windows) {
  using network = l3_network<cuda<P>, listening>;
  using user = hosted_inference<network>;
  using sound = typename network::sound;
  using map = typename user::audio_map::output;
  context<cuda<P>> on;
  network net;
  net.initialise(3);
  user u(on, net, windows);
  hosted_sliding<network> together(on, u, hop, windows + 2);
  std::size_t const columns = (windows - 1) * hop + sound::width;
  std::vector<float> whole(sound::height * columns);
  for (std::size_t k = 0; k < whole.size(); ++k)
    whole[k] = static_cast<float>(generator(1, stream::user, 0, static_cast<std::uint32_t>(k)).uniform(-1, 1));
  tensor<float, sound> apart(windows);
  for (std::size_t k = 0; k < windows; ++k)
    for (std::size_t r = 0; r < sound::height; ++r)
      std::copy_n(whole.data() + r * columns + k * hop, sound::width, apart.view()[k].data() + r * sound::width);
  extent2 const grid{2, 2};
  std::vector<float> features(windows * network::embedding::size), alone(features);
  std::vector<float> regions(windows * grid.height * grid.width * map::channels), alone_regions(regions);
  together.begin_embed(whole, windows);
  together.begin_regions(whole, windows, grid);
  u.finish(features), u.finish(regions);
  u.begin_embed(apart.view());
  u.template begin_regions<map>(apart.view(), grid, [](auto& inside, auto x, auto y) { inside.map_sounds(x, y); });
  u.finish(alone), u.finish(alone_regions);
  CHECK(std::any_of(alone.begin(), alone.end(), [&](float x) { return x != alone[0]; }));
  return std::max(furthest(features, alone), furthest(regions, alone_regions));
}
}  // namespace

TEST_CASE("windows on a GPU that share their common columns get what each alone would get") {
  if (!has_gpu()) return;
  for (std::size_t const hop : {1, 2, 12}) {
    CAPTURE(hop);
    CHECK(strays<fp32>(hop, 4) < 1e-5f);
  }
  CHECK(strays<fp32>(97, 2) < 1e-5f);
  CHECK(strays<bf16>(10, 3) < 2e-2f);
  using network = l3_network<cuda<bf16>, listening>;
  context<cuda<bf16>> on;
  network net;
  net.initialise(3);
  hosted_inference<network> u(on, net, 1);
  CHECK_THROWS_AS((hosted_sliding<network>(on, u, 0, 3)), shape_error);
  hosted_sliding<network> together(on, u, 10, 3);
  std::vector<float> const sound(network::sound::height * (network::sound::width + 30), 0.5f);
  CHECK_THROWS_AS(together.begin_embed(sound, 4), shape_error);
  CHECK_THROWS_AS(together.begin_embed(sound, 0), shape_error);
  CHECK_THROWS_AS(together.begin_embed(sound, 3), shape_error);
  CHECK(u.in_flight() == 0);
}
