#include <l3/kernels/kernels.hpp>

#include "../support/kernel_inputs.hpp"

namespace {
using namespace l3;
using namespace l3::test;

struct inputs {
  conv_dims d;
  std::vector<float> x, w, dy, scale, shift;
  explicit inputs(conv_dims const& dims)
      : d(dims),
        x(normal(d.rows() * d.in, 1)),
        w(normal(d.out * d.in * 9, 2)),
        dy(normal(d.rows() * d.out, 3)),
        scale(normal(d.out, 4)),
        shift(normal(d.out, 5)) {}
};

template <class B>
std::vector<scalar_of<B>> forward(context<B>& on, inputs const& in, bool biased = false) {
  std::vector<scalar_of<B>> const x(in.x.begin(), in.x.end()), w(in.w.begin(), in.w.end());
  std::vector<scalar_of<B>> const bias(in.shift.begin(), in.shift.end());
  output<scalar_of<B>> y(in.d.rows() * in.d.out);
  scratch_memory scratch(scratch_size<B>::conv2d_forward(in.d), in.d.batch, on.threads());
  conv2d_forward(on, in.d, x.data(), w.data(), biased ? bias.data() : nullptr, y.data(), scratch);
  return y.values();
}
/// Inference: weights prepared once, scaled by in.scale and shifted by in.shift if asked.
template <class B>
std::vector<scalar_of<B>> infer(context<B>& on, inputs const& in, bool scales, bool shifts, bool relu, bool pool) {
  using S = scalar_of<B>;
  std::vector<S> const x(in.x.begin(), in.x.end()), w(in.w.begin(), in.w.end());
  std::vector<S> const scale(in.scale.begin(), in.scale.end()), shift(in.shift.begin(), in.shift.end());
  conv_dims const& d = in.d;
  scratch_memory prepared(scratch_size<B>::conv2d_prepared(d), 0, 0);
  conv2d_prepare(on, d, w.data(), scales ? scale.data() : nullptr, prepared);
  output<S> y(d.batch * (pool ? (d.height / 2) * (d.width / 2) : d.height * d.width) * d.out);
  scratch_memory scratch(scratch_size<B>::conv2d_infer(d), d.batch, on.threads());
  conv2d_infer(on, d, x.data(), prepared, {shifts ? shift.data() : nullptr, relu, pool}, y, scratch);
  return y.values();
}
template <class B>
std::vector<scalar_of<B>> backward_data(context<B>& on, inputs const& in) {
  std::vector<scalar_of<B>> const dy(in.dy.begin(), in.dy.end()), w(in.w.begin(), in.w.end());
  output<scalar_of<B>> dx(in.d.rows() * in.d.in);
  scratch_memory scratch(scratch_size<B>::conv2d_backward(in.d), in.d.batch, on.threads());
  conv2d_backward_data(on, in.d, dy.data(), w.data(), dx.data(), scratch);
  return dx.values();
}
template <class B>
std::vector<scalar_of<B>> backward_weights(context<B>& on, inputs const& in) {
  std::vector<scalar_of<B>> const x(in.x.begin(), in.x.end()), dy(in.dy.begin(), in.dy.end());
  output<scalar_of<B>> dw(in.d.out * in.d.in * 9);
  scratch_memory scratch(scratch_size<B>::conv2d_backward(in.d), in.d.batch, on.threads());
  conv2d_backward_weights(on, in.d, x.data(), dy.data(), dw, scratch);
  return dw.values();
}

// Every remainder: pixels a row against tiles of 6 and 14, channels against blocks of 16 and panels of 8, 16 and 32,
// pictures one pixel high or wide, several strips down and across, several pictures in a strip. Those of 230 to 20:
// more than one group of Winograd's tiles that threads share, in the products (in bf16 of 400 channels, weights being
// smaller) and in the weight gradient.
conv_dims const sizes[] = {
    {1, 1, 1, 1, 1},      {1, 1, 9, 3, 5},     {2, 7, 1, 5, 3},    {3, 2, 2, 16, 16},     {2, 5, 7, 3, 64},
    {1, 13, 15, 1, 24},   {3, 6, 6, 33, 17},   {2, 8, 12, 64, 33}, {1, 3, 71, 17, 24},    {1, 70, 13, 24, 16},
    {2, 4, 130, 3, 1},    {1, 9, 28, 64, 48},  {1, 5, 29, 2, 32},  {5, 3, 3, 4, 130},     {1, 6, 11, 150, 6},
    {2, 31, 33, 1, 16},   {1, 40, 40, 48, 20}, {1, 2, 65, 16, 9},  {230, 1, 1, 288, 270}, {2800, 1, 1, 16, 20},
    {20, 2, 3, 400, 400}, {1, 1, 9, 3, 20},    {9, 5, 1, 1, 16},   {40, 6, 6, 3, 20},     {1, 4, 130, 3, 16},
};

/// Work that threads share out in every way. The large ones, of pictures `side` pixels high and wide, take minutes
/// without at least eight lanes, and are cut up alike there.
std::vector<conv_dims> shared_sizes(std::size_t side) {
  std::vector<conv_dims> d = {{3, 6, 6, 33, 17}, {2, 40, 37, 16, 48}, {1, 20, 70, 3, 16}};
  if (detail::width<detail::lanes<arch::best>> >= 8)
    d.insert(d.end(), {{230, side, side, 288, 270}, {20, 2, 3, 400, 400}});
  return d;
}

/// bf16 products too, where there are instructions for them, and emulated where the wide tiles are.
using with_bf16 = simd<arch::avx512, bf16>;
constexpr bool tests_bf16 =
    !std::same_as<arch::best, arch::avx2> && detail::products<detail::lanes<arch::avx512>, bf16>::exist;
template <class... Others>
using conv_backends_with =
    std::conditional_t<tests_bf16, backends_with<Others..., with_bf16>, backends_with<Others...>>;
using conv_backends = conv_backends_with<reference<float>>;
using fast_conv_backends = conv_backends_with<>;

/// Of the largest value. Winograd's transforms, from 16 channels on both sides, have terms larger than the result, and
/// bf16 rounds each of their factors by up to 1/512.
template <class B>
double tolerance(conv_dims const& d) {
  if (d.in < 16 || d.out < 16) return 2e-6;
  return std::same_as<B, with_bf16> ? 5e-2 : 4e-6;
}
/// In inference matrix registers take bf16 without transforms.
constexpr bool tests_matrices = tests_bf16 && detail::has_matrix_products<arch::avx512, bf16>;
/// Tiles of 6x6 outputs have points farther apart.
template <class B>
double inference_tolerance(conv_dims const& d) {
  if constexpr (requires { typename B::precision; })
    if (detail::large_tiles_pay<typename B::precision>(d)) return 1e-5;
  if constexpr (tests_matrices && std::same_as<B, with_bf16>)
    if (detail::matrices_pay<arch::avx512, bf16>(d)) return 1e-2;
  return tolerance<B>(d);
}
}  // namespace

TEMPLATE_LIST_TEST_CASE("conv2d forward agrees with the plain loop in double", "", conv_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const& d : sizes) {
    CAPTURE(d.batch, d.height, d.width, d.in, d.out);
    inputs const in(d);
    CHECK(distance(forward(on, in, true), forward(judge, in, true)) < tolerance<TestType>(d));
  }
}

TEMPLATE_LIST_TEST_CASE("conv2d in inference scales, shifts, rectifies and pools on the way out", "", conv_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  auto const check = [&](inputs const& in, bool scales, bool shifts, bool relu, bool pool) {
    if (pool && !scratch_size<TestType>::conv2d_pools(in.d)) return;
    CAPTURE(in.d.batch, in.d.height, in.d.width, in.d.in, in.d.out, scales, shifts, relu, pool);
    CHECK(distance(infer(on, in, scales, shifts, relu, pool), infer(judge, in, scales, shifts, relu, pool)) <
          inference_tolerance<TestType>(in.d));
  };
  for (auto const& d : {conv_dims{1, 5, 7, 3, 5}, conv_dims{2, 4, 9, 33, 34}, conv_dims{3, 11, 6, 16, 20}}) {
    inputs const in(d);
    for (int k = 0; k < 16; ++k) check(in, k & 1, k & 2, k & 4, k & 8);
  }
  // Pools: every remainder of tiles of 4 and of 6, and tiles that threads share.
  for (auto const& d : sizes) check(inputs(d), true, true, true, true);
  for (std::size_t side = 6; side < 12; ++side) check(inputs({1, side, side + 13, 18, 20}), true, true, true, true);
  check(inputs({20, 2, 3, 288, 270}), true, true, true, true);
  static_assert(detail::winograd_plan<arch::avx512, fp32, 4>{288, 270, 1, 1}.shares());
  using finest = std::conditional_t<tests_bf16, bf16, fp32>;
  static_assert(detail::winograd_plan<arch::avx512, finest, 4>{400, 400, 1, 1}.shares());
}

TEMPLATE_LIST_TEST_CASE("conv2d keeps what is not a number visible", "", conv_backends) {
  context<TestType> on(2);
  for (std::size_t channels : {3, 16}) {
    inputs in({1, 4, 12, channels, 16});
    in.x[5] = std::numeric_limits<float>::quiet_NaN();  // pixel (0, 0) or (0, 1) reaches the outputs (0..1, 0..1)
    for (auto const& y : {forward(on, in), infer(on, in, false, false, true, false)}) {
      CHECK(std::isnan(y[0]));
      CHECK(std::isnan(y[13 * 16]));
      CHECK(!std::isnan(y[6 * 16]));  // not in the next tile: Winograd spreads it over the tiles that it reaches
    }
  }
}

TEMPLATE_LIST_TEST_CASE("conv2d forward hides no infinity", "", conv_backends) {
  context<TestType> on(2);
  for (std::size_t channels : {3, 16}) {
    inputs in({1, 4, 12, channels, 16});
    in.x[0] = std::numeric_limits<float>::infinity();
    auto const y = forward(on, in);
    for (std::size_t pixel : {0, 1, 12, 13})
      for (std::size_t o = 0; o < 16; ++o) CHECK(!std::isfinite(y[pixel * 16 + o]));
    CHECK(std::isfinite(y[4 * 16]));
  }
}

TEMPLATE_LIST_TEST_CASE("conv2d data gradient agrees with the plain loop in double", "", conv_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const& d : sizes) {
    CAPTURE(d.batch, d.height, d.width, d.in, d.out);
    inputs const in(d);
    CHECK(distance(backward_data(on, in), backward_data(judge, in)) < tolerance<TestType>(d));
  }
}

TEMPLATE_LIST_TEST_CASE("conv2d weight gradient agrees with the plain loop in double", "", conv_backends) {
  context<TestType> on(2);
  context<reference<double>> judge(1);
  for (auto const& d : sizes) {
    CAPTURE(d.batch, d.height, d.width, d.in, d.out);
    inputs const in(d);
    CHECK(distance(backward_weights(on, in), backward_weights(judge, in)) < std::max(5e-6, tolerance<TestType>(d)));
  }
}

TEMPLATE_LIST_TEST_CASE("conv2d gives the same bits on any number of threads", "[values]", fast_conv_backends) {
  for (auto const& d : shared_sizes(1)) {
    CAPTURE(d.batch, d.height, d.width, d.in, d.out);
    inputs const in(d);
    check_same_bits<TestType>([&](auto& on) { return forward(on, in); });
    check_same_bits<TestType>([&](auto& on) { return backward_data(on, in); });
    check_same_bits<TestType>([&](auto& on) { return backward_weights(on, in); });
  }
}

TEMPLATE_LIST_TEST_CASE("conv2d in inference gives the same bits on any number of threads", "[values]",
                        fast_conv_backends) {
  for (auto const& d : shared_sizes(2)) {
    CAPTURE(d.batch, d.height, d.width, d.in, d.out);
    inputs const in(d);
    bool const pool = scratch_size<TestType>::conv2d_pools(d);
    check_same_bits<TestType>([&](auto& on) { return infer(on, in, true, true, true, pool); });
  }
}

TEMPLATE_LIST_TEST_CASE("conv2d of an empty batch is nothing, its weight gradient zero", "", fast_conv_backends) {
  context<TestType> on(2);
  for (std::size_t channels : {3, 16}) {
    inputs const none({0, 4, 4, channels, 16});
    CHECK(forward(on, none).empty());
    CHECK(backward_data(on, none).empty());
    CHECK(backward_weights(on, none) == std::vector<float>(16 * channels * 9, 0.0f));
  }
}

// 12,000 tiles: the sums of a batch of large pictures.
constexpr conv_dims many_pixels{3, 256, 250, 16, 16};
// In double, once for all backends: it takes seconds.
std::vector<double> const& of_many_pixels() {
  static context<reference<double>> judge(1);
  static std::vector<double> const gradient = backward_weights(judge, inputs(many_pixels));
  return gradient;
}
TEMPLATE_LIST_TEST_CASE("conv2d weight gradient does not lose digits over many pixels", "[values]",
                        fast_conv_backends) {
  context<TestType> on(2);
  inputs const in(many_pixels);
  CHECK(distance(backward_weights(on, in), of_many_pixels()) < std::max(5e-6, tolerance<TestType>(in.d)));
}

// What one convolution writes packed the next one reads. Not a number stands wherever no value of the picture and no
// border is, and must reach none.
template <class B>
void check_packed(inputs const& in, bool pool) {
  CAPTURE(in.d.batch, in.d.height, in.d.width, in.d.in, in.d.out, pool);
  conv_dims const& d = in.d;
  auto const nan = bfloat16::of_bits(0x7fff);
  auto const place = [](detail::packed_map const& map, std::size_t n, std::size_t r, std::size_t c, std::size_t k) {
    return n * map.size() + k / detail::matrix_depth * map.plane() + map.at(r, c) + k % detail::matrix_depth;
  };
  detail::packed_map const from{d.height, d.width, d.in};
  std::vector<bfloat16> x(d.batch * from.size(), nan);
  for (std::size_t n = 0; n < d.batch; ++n)
    for (std::size_t r = 0; r < d.height + 2; ++r)
      for (std::size_t c = 0; c < d.width + 2; ++c)
        for (std::size_t k = 0; k < from.blocks() * detail::matrix_depth; ++k) {
          bool const inside = r > 0 && r <= d.height && c > 0 && c <= d.width && k < d.in;
          x[place(from, n, r, c, k)] =
              inside ? detail::rounded(in.x[((n * d.height + r - 1) * d.width + c - 1) * d.in + k]) : bfloat16{};
        }
  detail::packed_map const to{pool ? d.height / 2 : d.height, pool ? d.width / 2 : d.width, d.out};
  context<B> on(2);
  scratch_memory prepared(scratch_size<B>::conv2d_prepared(d), 0, 0),
      scratch(scratch_size<B>::conv2d_infer(d), d.batch, 2);
  conv2d_prepare(on, d, in.w.data(), in.scale.data(), prepared);
  auto const plain = infer(on, in, true, true, true, pool);
  bool const reads = scratch_size<B>::conv2d_packed(d) != footprint{}, writes = scratch_size<B>::conv2d_packs(d);
  if (reads) {
    CHECK(scratch_size<B>::conv2d_packed(d).bytes(d.batch, 0) == x.size() * sizeof(bfloat16));
    output<float> y(plain.size());
    conv2d_infer(on, d, reinterpret_cast<float const*>(x.data()), prepared, {in.shift.data(), true, pool}, y, scratch,
                 {.x = true});
    CHECK(y.values() == plain);
  }
  for (bool const both : {false, true}) {
    if (!writes || (both && !reads)) continue;
    std::vector<bfloat16> y(d.batch * to.size(), nan);
    conv2d_infer(on, d, both ? reinterpret_cast<float const*>(x.data()) : in.x.data(), prepared,
                 {in.shift.data(), true, pool}, reinterpret_cast<float*>(y.data()), scratch, {both, true});
    bool same = true;
    for (std::size_t n = 0; n < d.batch; ++n)
      for (std::size_t r = 0; r < to.height + 2; ++r)
        for (std::size_t c = 0; c < to.width + 2; ++c)
          for (std::size_t k = 0; k < to.blocks() * detail::matrix_depth; ++k) {
            bool const inside = r > 0 && r <= to.height && c > 0 && c <= to.width && k < d.out;
            auto const value =
                inside ? detail::rounded(plain[((n * to.height + r - 1) * to.width + c - 1) * d.out + k]) : bfloat16{};
            same = same && y[place(to, n, r, c, k)].bits == value.bits;
          }
    CHECK(same);
  }
}
TEST_CASE("conv2d in inference reads and writes packed maps, to the bit") {
  if constexpr (tests_matrices) {
    for (auto const& d : sizes) check_packed<with_bf16>(inputs(d), false);
    for (auto const& d : sizes)
      if (scratch_size<with_bf16>::conv2d_pools(d) && d.height > 1 && d.width > 1)
        check_packed<with_bf16>(inputs(d), true);
    check_packed<with_bf16>(inputs({9, 5, 6, 250, 260}), false);
    for (std::size_t side = 14; side < 20; ++side)
      for (bool const pool : {false, true}) check_packed<with_bf16>(inputs({2, side, side + 25, 40, 70}), pool);
  }
}

// More than 32 MiB of outputs are stored past the caches.
TEMPLATE_LIST_TEST_CASE("conv2d gives a batch larger than the caches the bits of its pictures alone", "",
                        fast_conv_backends) {
  context<TestType> on(2);
  for (std::size_t channels : {3, 16}) {
    inputs const both({2, 263, 255, channels, 64});
    inputs one({1, 263, 255, channels, 64});
    auto const y = forward(on, both), z = infer(on, both, true, true, true, false);
    REQUIRE(y.size() * sizeof(float) > (std::size_t{32} << 20));
    for (std::size_t k = 0; k < 2; ++k) {
      std::copy_n(both.x.begin() + static_cast<std::ptrdiff_t>(k * one.x.size()), one.x.size(), one.x.begin());
      auto const half = static_cast<std::ptrdiff_t>(y.size() / 2), part = static_cast<std::ptrdiff_t>(k) * half;
      CHECK(std::equal(y.begin() + part, y.begin() + part + half, forward(on, one).begin()));
      CHECK(std::equal(z.begin() + part, z.begin() + part + half, infer(on, one, true, true, true, false).begin()));
    }
  }
}

TEST_CASE("maps larger than the caches that no whole lines fit, and pooled ones, are right too") {
  if constexpr (detail::width<detail::lanes<arch::best>> < 16) return;  // no such stores
  context<cpu> on(2);
  context<reference<float>> judge(1);
  inputs const pooled({1, 366, 366, 16, 256}), narrow({1, 366, 366, 3, 65});
  // a few rows suffice to judge
  auto const check = [&](inputs const& in, bool pool) {
    auto const y = infer(on, in, true, true, true, pool);
    REQUIRE(y.size() * sizeof(float) > (std::size_t{32} << 20));
    inputs few({1, 8, in.d.width, in.d.in, in.d.out});
    std::copy_n(in.x.begin(), few.x.size(), few.x.begin());
    auto const expected = infer(judge, few, true, true, true, pool);
    std::size_t const rows =
        (few.d.height - 2) * in.d.width * in.d.out / (pool ? 4 : 1);  // the last misses what follows
    std::vector<float> const found(y.begin(), y.begin() + static_cast<std::ptrdiff_t>(rows));
    CHECK(distance(found, std::vector<double>(expected.begin(), expected.begin() + static_cast<std::ptrdiff_t>(rows))) <
          1e-5);
  };
  check(pooled, true);
  check(narrow, false);
}

TEST_CASE("convolutions read and write bfloat16") {
  if constexpr (tests_bf16) {
    context<with_bf16> on(2);
    std::vector<conv_dims> all{{2, 5, 7, 3, 64},   {1, 6, 11, 150, 6}, {3, 6, 6, 33, 17},  {2, 8, 12, 64, 33},
                               {1, 9, 28, 64, 48}, {2, 31, 33, 1, 16}, {1, 40, 40, 48, 20}};
    // Larger than the caches; of so many channels that threads share each group of tiles.
    if constexpr (!detail::is_plain<detail::lanes<arch::avx512>>)
      all.insert(all.end(), {{1, 523, 521, 3, 64}, {1, 523, 521, 16, 64}, {20, 2, 3, 400, 400}});
    for (auto const& d : all) {
      CAPTURE(d.batch, d.height, d.width, d.in, d.out);
      inputs same(d);
      auto const x = stored(same.x), dy = stored(same.dy);
      same.x = restored(x), same.dy = restored(dy);
      output<bfloat16> y(dy.size()), dx(x.size());
      output<float> dw(same.w.size());
      scratch_memory ahead(scratch_size<with_bf16>::conv2d_forward(d), d.batch, on.threads());
      scratch_memory back(scratch_size<with_bf16>::conv2d_backward(d), d.batch, on.threads());
      conv2d_forward(on, d, x.data(), same.w.data(), nullptr, y.data(), ahead);
      conv2d_backward_data(on, d, dy.data(), same.w.data(), dx.data(), back);
      conv2d_backward_weights(on, d, x.data(), dy.data(), dw, back);
      auto const exact = forward(on, same);
      CHECK(rounds_to(exact, y.values()));
      CHECK(rounds_to(backward_data(on, same), dx.values()));
      CHECK(distance(dw.values(), widened(backward_weights(on, same))) < 1e-5);
      // As in a network's first layer.
      output<bfloat16> first(dy.size());
      conv2d_forward(on, d, same.x.data(), same.w.data(), nullptr, first.data(), ahead);
      CHECK(rounds_to(exact, first.values()));
    }
  }
}

#if defined(__AVX512BF16__)
TEST_CASE("rounding to bf16 is the processor's, bit for bit") {
  using V = detail::lanes<arch::avx512>;
  std::vector<float> values{0.0f,
                            -0.0f,
                            1.0f,
                            1.00390625f,
                            1.01171875f,
                            1.00390637f,
                            1e-38f,
                            -1e-40f,
                            3.4e38f,
                            std::numeric_limits<float>::max(),
                            std::numeric_limits<float>::infinity(),
                            -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN(),
                            std::numeric_limits<float>::signaling_NaN(),
                            std::numeric_limits<float>::min(),
                            std::numeric_limits<float>::denorm_min()};
  for (float v : normal(16000, 1)) values.push_back(v);
  for (std::size_t k = 0; k + 16 <= values.size(); k += 16) {
    bfloat16 found[16];
    detail::put(found, detail::load<V>(values.data() + k));
    for (std::size_t j = 0; j < 16; ++j) {
      CAPTURE(values[k + j]);
      CHECK(found[j].bits == detail::rounded(values[k + j]).bits);
    }
  }
}
#endif
