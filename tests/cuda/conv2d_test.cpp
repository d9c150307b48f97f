#include "../support/device.hpp"

namespace {
using namespace l3;
using namespace l3::test;

/// Calls f for products of warps, which every GPU makes, and where there are some for those of warpgroups, with pixels
/// copied for each tap and, with whole blocks of channels, read by all taps where they are.
enum class made_by { warps, warpgroups, direct };
template <class P, class F>
void with_each_product(F const& f) {
  auto const emulate = []([[maybe_unused]] int capability) {
#if !defined(__CUDACC__)
    emulated::capability = capability;
#endif
  };
  emulate(8);
  f(made_by::warps);
  emulate(9);
  if (context<cuda<P>>().warpgroups()) f(made_by::warpgroups), f(made_by::direct);
  emulate(8);
}
template <class P>
struct convolutions {
  using T = value_of<cuda<P>>;
  context<cuda<P>> on;
  conv_dims d;
  std::vector<float> x, w, dy, scale, shift;
  explicit convolutions(conv_dims const& dims, made_by products = made_by::warps)
      : d(dims),
        x(normal_of<T>(d.rows() * d.in, 1)),
        w(normal_of<T>(d.out * d.in * 9, 2)),
        dy(normal_of<T>(d.rows() * d.out, 3)),
        scale(normal_of<float>(d.out, 4)),
        shift(normal_of<float>(d.out, 5)) {
    char const* const name = products == made_by::warps ? "warp" : products == made_by::direct ? "direct" : "warpgroup";
    on.products(name);
    CHECK(on.products() == std::string(name));
    on.most_blocks(2);  // so that they go on from tile to tile
  }

  /// Output, means and variances, one behind the other.
  std::vector<float> forward(bool biased) {
    on_device<T> in(x), y(d.rows() * d.out);
    on_device<float> weights(w), bias(shift), mean(d.out), variance(d.out);
    device_scratch scratch(scratch_size<cuda<P>>::conv2d_forward(d), d.batch);
    conv2d_forward_moments(on, d, in.data(), weights.data(), biased ? bias.data() : nullptr, y.data(), mean.data(),
                           variance.data(), scratch);
    auto all = y.values(on);
    for (auto const& more : {mean.values(on), variance.values(on)}) all.insert(all.end(), more.begin(), more.end());
    on_device<T> alone(d.rows() * d.out);
    conv2d_forward(on, d, in.data(), weights.data(), biased ? bias.data() : nullptr, alone.data(), scratch);
    auto const again = alone.values(on);
    CHECK(std::equal(again.begin(), again.end(), all.begin(),
                     [](float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }));
    scratch.check(on);
    return all;
  }
  std::vector<float> infer(bool scales, bool shifts, bool relu, bool pool) {
    on_device<T> in(x), y(d.batch * (pool ? (d.height / 2) * (d.width / 2) : d.height * d.width) * d.out);
    on_device<float> weights(w), s(scale), more(shift);
    device_scratch prepared(scratch_size<cuda<P>>::conv2d_prepared(d), 0);
    conv2d_prepare(on, d, weights.data(), scales ? s.data() : nullptr, prepared);
    device_scratch scratch(scratch_size<cuda<P>>::conv2d_infer(d), d.batch);
    conv2d_infer(on, d, in.data(), prepared, {shifts ? more.data() : nullptr, relu, pool}, y.data(), scratch);
    prepared.check(on), scratch.check(on);
    return y.values(on);
  }
  std::vector<float> backward_data() {
    on_device<T> from(dy), dx(d.rows() * d.in);
    on_device<float> weights(w);
    device_scratch scratch(scratch_size<cuda<P>>::conv2d_backward(d), d.batch);
    conv2d_backward_data(on, d, from.data(), weights.data(), dx.data(), scratch);
    scratch.check(on);
    return dx.values(on);
  }
  std::vector<float> backward_weights() {
    on_device<T> in(x), from(dy);
    on_device<float> dw(d.out * d.in * 9);
    device_scratch scratch(scratch_size<cuda<P>>::conv2d_backward(d), d.batch);
    conv2d_backward_weights(on, d, in.data(), from.data(), dw.data(), scratch);
    scratch.check(on);
    return dw.values(on);
  }

  context<reference<double>> judge{1};
  std::vector<double> expected_forward(bool biased) {
    std::vector<double> y(d.rows() * d.out);
    auto const bias = in_double(shift);
    conv2d_forward(judge, d, in_double(x).data(), in_double(w).data(), biased ? bias.data() : nullptr, y.data(),
                   nullptr);
    return y;
  }
  std::vector<double> expected_infer(bool scales, bool shifts, bool relu, bool pool) {
    std::vector<double> y(d.batch * (pool ? (d.height / 2) * (d.width / 2) : d.height * d.width) * d.out);
    std::vector<double> prepared(w.size());
    auto const s = in_double(scale), more = in_double(shift);
    auto* const bytes = reinterpret_cast<std::byte*>(prepared.data());
    conv2d_prepare(judge, d, in_double(w).data(), scales ? s.data() : nullptr, bytes);
    conv2d_infer(judge, d, in_double(x).data(), bytes, {shifts ? more.data() : nullptr, relu, pool}, y.data(), nullptr);
    return y;
  }
};

/// Of the largest value. Inputs are such that their precision holds them exactly; outputs are rounded to it, in bf16 by
/// at most 2^-9, and tf32 rounds inputs by 2^-11.
template <class P>
constexpr double tolerance = std::is_same_v<P, bf16>   ? 4.5e-3
                             : std::is_same_v<P, tf32> ? 1.5e-3
                                                       : 4e-6;
/// Of sums that stay float.
template <class P>
constexpr double sum_tolerance = std::is_same_v<P, bf16> ? 1e-5 : tolerance<P>;

// Gathered channels and whole vectors; fewer and more columns than each tile; pixels less, as many and more than a
// tile; pictures one pixel high or wide; odd sides; several steps along the sum, in one tap and over several.
conv_dims const conv_sizes[] = {{1, 1, 1, 1, 1},   {1, 1, 9, 3, 5},     {2, 7, 1, 5, 3},   {3, 2, 2, 16, 16},
                                {2, 5, 7, 3, 64},  {1, 13, 15, 1, 24},  {1, 6, 6, 33, 17}, {2, 8, 12, 64, 40},
                                {1, 3, 71, 8, 24}, {1, 16, 16, 24, 16}, {1, 5, 9, 72, 72}, {3, 3, 3, 16, 136},
                                {1, 9, 8, 80, 64}, {1, 4, 70, 64, 64}};
/// For the tiles of warpgroups: several of rows, the last one of them in part; one and more of columns, full and not.
conv_dims const group_sizes[] = {
    {1, 9, 17, 16, 256}, {1, 3, 43, 128, 128}, {1, 2, 5, 64, 512}, {2, 3, 5, 40, 264}, {1, 2, 9, 72, 256}};

/// For those that read all taps in one place: pictures of a pixel; several in a tile, the last one of them in part, and
/// in its second half there is nothing; full tiles; several blocks of channels, in and out; strips, the last one
/// narrower; the widest pictures without strips, and the paper's. A block has one to three tiles, of one to three
/// blocks of channels.
conv_dims const direct_sizes[] = {{3, 1, 1, 64, 64},   {2, 10, 15, 64, 192},  {1, 42, 48, 64, 64},
                                  {2, 3, 5, 128, 192}, {1, 17, 30, 192, 128}, {1, 2, 121, 64, 64},
                                  {1, 1, 241, 64, 64}, {1, 3, 114, 64, 64},   {1, 3, 224, 64, 64}};

/// For those that pool too, in lines of two rows: pictures of less than a window, and of one; odd and even sides;
/// several pictures in a tile, and in a row of tiles, the last one of them in part; several blocks of channels, in and
/// out; strips, with an odd column behind the last one; the widest pictures without strips, and the paper's.
conv_dims const pooled_sizes[] = {{1, 1, 3, 64, 64},    {3, 2, 2, 64, 64},   {2, 5, 7, 64, 192},  {2, 10, 15, 192, 128},
                                  {1, 42, 48, 64, 64},  {1, 3, 113, 64, 64}, {1, 5, 117, 64, 64}, {1, 2, 227, 64, 64},
                                  {2, 17, 30, 128, 64}, {1, 4, 224, 64, 64}, {1, 4, 6, 256, 256}};

/// For the weight gradient of these: parts that begin and end within a picture, of blocks that have several of them;
/// the widest pictures that are not cut into strips, and some that are; many channels.
conv_dims const weight_sizes[] = {{2, 31, 37, 64, 128}, {5, 19, 20, 64, 64},  {1, 1, 494, 64, 64},
                                  {1, 2, 600, 64, 64},  {1, 1, 1018, 64, 64}, {1, 3, 4, 256, 128}};

template <class P, class F>
void with_each_size(F const& f) {
  with_each_product<P>([&](made_by products) {
    if (products == made_by::direct) {
      for (auto const& d : direct_sizes) f(d, products);
      return;
    }
    for (auto const& d : conv_sizes) f(d, products);
    if (products == made_by::warpgroups)
      for (auto const& d : group_sizes) f(d, products), f({d.batch, d.height, d.width, d.out, d.in}, products);
  });
}
}  // namespace

TEST_CASE("products of warpgroups on a GPU read rows from anywhere in a pattern") {
  if (!has_gpu()) return;
  with_each_product<bf16>([](made_by products) {
    if (products != made_by::direct) return;
    context<cuda<bf16>> on;
    auto const left_values = normal_of<bfloat16>(detail::gpu::left_rows * 64, 1),
               right_values = normal_of<bfloat16>(detail::gpu::right_rows * 64, 2);
    std::vector<bfloat16> const a(left_values.begin(), left_values.end()), b(right_values.begin(), right_values.end());
    on_device<bfloat16> left(left_values), right(right_values);
    auto const check = [&]<bool Across>(std::bool_constant<Across>) {
      constexpr std::size_t columns = detail::gpu::product_columns<Across>;
      // How far off each block of 64 columns is.
      auto const off = [&](std::size_t first, int base_offset) {
        on_device<float> c(64 * columns);
        detail::gpu::launch_products_of_rows<Across>(on.stream(), static_cast<int>(first), static_cast<int>(first) + 1,
                                                     std::uint64_t(base_offset) << 49, left.data(), right.data(),
                                                     c.data());
        auto const found = c.values(on);
        std::vector<double> each;
        for (std::size_t block = 0; block != columns; block += 64) {
          std::vector<float> part;
          std::vector<double> expected;
          for (std::size_t i = 0; i < 64; ++i)
            for (std::size_t j = block; j < block + 64; ++j) {
              part.push_back(found[i * columns + j]);
              expected.push_back(detail::gpu::product_of_rows<Across>(first, a.data(), b.data(), i, j));
            }
          each.push_back(apart(part, expected));
        }
        return each;
      };
      for (std::size_t first = 0; first <= 8; ++first) {
        auto const found = off(first, 0);
        bool const right_so = std::all_of(found.begin(), found.end(), [](double x) { return x < 1e-5; });
        CAPTURE(first, columns, found);
        CHECK(right_so);  // (a Hopper GPU cuts its sums' last digits off)
#if defined(__CUDACC__)
        // Which rule the GPU has instead, if it disagrees.
        for (int base_offset = 1; !right_so && base_offset != 8; ++base_offset)
          for (double const x : off(first, base_offset))
            std::printf("columns %zu, first row %zu, base offset %d: %g\n", columns, first, base_offset, x);
#endif
      }
    };
    check(std::false_type{}), check(std::true_type{});
    CHECK(detail::gpu::reads_rows_anywhere());
    // One that does not is not asked to.
    CHECK((on.direct() && !on.direct([] { return false; }) && !on.direct([] { return true; })));
    CHECK(on.products() == std::string("warpgroup"));
  });
}

TEMPLATE_TEST_CASE("conv2d forward and its moments on a GPU", "", fp32, tf32, bf16) {
  if (!has_gpu()) return;
  with_each_size<TestType>([](conv_dims const& d, made_by products) {
    CAPTURE(d.batch, d.height, d.width, d.in, d.out, static_cast<int>(products));
    convolutions<TestType> c(d, products);
    auto const all = both_orders([&] { return c.forward(d.in % 2 == 0); });
    std::size_t const values = d.rows() * d.out;
    CHECK(apart({all.begin(), all.begin() + static_cast<std::ptrdiff_t>(values)}, c.expected_forward(d.in % 2 == 0)) <
          tolerance<TestType>);
    // Moments of what was written, not of what should have been.
    std::vector<double> mean(d.out), variance(d.out);
    std::vector<double> const written(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(values));
    channel_moments(c.judge, d.rows(), d.out, written.data(), mean.data(), variance.data(), nullptr);
    mean.insert(mean.end(), variance.begin(), variance.end());
    CHECK(apart({all.begin() + static_cast<std::ptrdiff_t>(values), all.end()}, mean) < 2e-6);
  });
}

TEMPLATE_TEST_CASE("conv2d in inference on a GPU scales, shifts, rectifies and pools on the way out", "", fp32, tf32,
                   bf16) {
  if (!has_gpu()) return;
  with_each_product<TestType>([](made_by products) {
    std::vector<conv_dims> sizes = {
        {1, 5, 7, 3, 5}, {2, 5, 7, 3, 64}, {1, 9, 13, 1, 16}, {2, 4, 9, 16, 40}, {1, 17, 18, 8, 72}};
    if (products == made_by::warpgroups) sizes.push_back({1, 7, 20, 8, 256});
    if (products == made_by::direct) sizes.assign(std::begin(pooled_sizes), std::end(pooled_sizes));
    for (auto const& d : sizes)
      for (int k = 0; k < 16; ++k) {
        if (products == made_by::direct && k != 7 && k != 10 && k != 15) continue;
        CAPTURE(d.batch, d.height, d.width, d.in, d.out, k, static_cast<int>(products));
        convolutions<TestType> c(d, products);
        auto const y = both_orders([&] { return c.infer(k & 1, k & 2, k & 4, k & 8); });
        // The scaled weights are rounded to bf16 too.
        CHECK(apart(y, c.expected_infer(k & 1, k & 2, k & 4, k & 8)) < 2 * tolerance<TestType>);
      }
  });
}

TEMPLATE_TEST_CASE("conv2d data gradient on a GPU", "", fp32, tf32, bf16) {
  if (!has_gpu()) return;
  with_each_size<TestType>([](conv_dims const& d, made_by products) {
    CAPTURE(d.batch, d.height, d.width, d.in, d.out, static_cast<int>(products));
    convolutions<TestType> c(d, products);
    std::vector<double> expected(d.rows() * d.in);
    conv2d_backward_data(c.judge, d, in_double(c.dy).data(), in_double(c.w).data(), expected.data(), nullptr);
    CHECK(apart(both_orders([&] { return c.backward_data(); }), expected) < tolerance<TestType>);
  });
}

TEMPLATE_TEST_CASE("conv2d weight gradient on a GPU", "", fp32, tf32, bf16) {
  if (!has_gpu()) return;
  auto const check = [](conv_dims const& d, made_by products) {
    CAPTURE(d.batch, d.height, d.width, d.in, d.out, static_cast<int>(products));
    convolutions<TestType> c(d, products);
    std::vector<double> expected(d.out * d.in * 9);
    conv2d_backward_weights(c.judge, d, in_double(c.x).data(), in_double(c.dy).data(), expected.data(), nullptr);
    CHECK(apart(both_orders([&] { return c.backward_weights(); }), expected) < sum_tolerance<TestType>);
  };
  with_each_size<TestType>(check);
  with_each_product<TestType>([&](made_by products) {  // several parts
    check({3, 40, 33, 8, 8}, products);
    if (products == made_by::warpgroups)
      for (auto const& d :
           std::initializer_list<conv_dims>{{2, 31, 37, 24, 40}, {2, 31, 37, 24, 72}, {1, 33, 32, 256, 72}})
        check(d, products);
    if (products == made_by::direct)
      for (auto const& d : weight_sizes) check(d, products);
  });
}

TEMPLATE_TEST_CASE("conv2d on a GPU keeps what is not a number visible", "", fp32, tf32, bf16) {
  if (!has_gpu()) return;
  with_each_product<TestType>([](made_by products) {
    for (conv_dims const& d :
         std::initializer_list<conv_dims>{{2, 4, 12, 16, 16}, {2, 4, 12, 16, 48}, {2, 4, 12, 64, 64}}) {
      if ((products == made_by::direct) != (d.out == 64)) continue;
      convolutions<TestType> c(d, products);
      // Of the first picture the pixels (0, 0) and (3, 11), which reach their neighbours and nobody else.
      c.x[5] = c.x[(4 * 12 - 1) * d.in + 1] = std::numeric_limits<float>::quiet_NaN();
      for (auto const& y : {c.forward(false), c.infer(false, false, true, false)})
        for (std::size_t p = 0; p < d.rows(); ++p) {
          CAPTURE(d.out, p);
          std::size_t const i = p / 12, j = p % 12;
          CHECK(std::isnan(y[p * d.out + 7]) == ((i < 2 && j < 2) || (i >= 2 && i < 4 && j >= 10)));
        }
      // One in a window is enough: at its right or left, in its upper or its lower row.
      convolutions<TestType> in_part(d, products);
      in_part.x[(1 * 12 + 2) * d.in] = in_part.x[(4 * 12 + 2 * 12 + 9) * d.in] =
          std::numeric_limits<float>::quiet_NaN();
      auto const windows = in_part.infer(false, false, true, true);
      for (std::size_t w = 0; w < d.rows() / 4; ++w) {
        CAPTURE(d.out, w);
        CHECK(std::isnan(windows[w * d.out + 7]) == (w < 12 ? w % 6 < 2 : w % 6 >= 4));
      }
    }
  });
}

TEST_CASE("conv2d weight gradient on a GPU keeps what is not a number in its channels") {
  if (!has_gpu()) return;
  with_each_product<bf16>([](made_by products) {
    conv_dims const d{2, 4, 12, 64, 64};
    auto const not_numbers = [&](bool in_x, std::size_t pixel) {
      convolutions<bf16> c(d, products);
      (in_x ? c.x : c.dy)[pixel * 64 + 5] = std::numeric_limits<float>::infinity();
      std::vector<double> expected(d.out * d.in * 9);
      conv2d_backward_weights(c.judge, d, in_double(c.x).data(), in_double(c.dy).data(), expected.data(), nullptr);
      auto const dw = c.backward_weights();
      std::size_t spread = 0, lost = 0;
      for (std::size_t k = 0; k < dw.size(); ++k) {
        spread += (in_x ? k / 9 % 64 : k / (9 * 64)) != 5 && !std::isfinite(dw[k]);
        lost += !std::isfinite(expected[k]) && std::isfinite(dw[k]);
      }
      CAPTURE(static_cast<int>(products), in_x, pixel);
      CHECK((spread == 0 && lost == 0));
    };
    for (std::size_t const pixel : {0, 17, 95}) not_numbers(true, pixel), not_numbers(false, pixel);
  });
}
