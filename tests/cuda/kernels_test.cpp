#include "../support/device.hpp"

namespace {
using namespace l3;
using namespace l3::test;

using judge = reference<double>;
template <class P>
using value = value_of<cuda<P>>;
/// Of values that are rounded to the precision's storage once, and of what stays float.
template <class P>
constexpr double stored_as = std::is_same_v<P, bf16> ? 4e-3 : 2e-6;
constexpr double kept = 4e-6;

/// One of two GPUs. What the other one says at each meeting is what it said in the round before.
class remembered final : public gpu_group {
 public:
  using sayings = std::vector<std::vector<float>>;
  remembered(std::size_t rank, sayings& own, sayings const& other) : rank_(rank), own_(own), other_(other) {
    own_.clear();
  }
  std::size_t rank() const override { return rank_; }
  std::size_t size() const override { return 2; }
  void mean(float*, std::size_t, float, cudaStream_t) override { FAIL("is not asked for"); }
  void sum_parts(float const*, float*, std::size_t, cudaStream_t) override { FAIL("is not asked for"); }
  void gather(void const* mine, void* all, std::size_t bytes, cudaStream_t in) override {
    std::vector<float> said(bytes / sizeof(float));
    cuda_check(cudaMemcpyAsync(said.data(), mine, bytes, cudaMemcpyDeviceToHost, in), "listening");
    cuda_check(cudaStreamSynchronize(in), "listening");
    std::size_t const meeting = own_.size();
    own_.push_back(said);
    std::vector<float> const& other = meeting < other_.size() ? other_[meeting] : said;
    for (std::size_t r : {0u, 1u})
      cuda_check(cudaMemcpyAsync(static_cast<char*>(all) + r * bytes, (r == rank_ ? said : other).data(), bytes,
                                 cudaMemcpyHostToDevice, in),
                 "saying");
    cuda_check(cudaStreamSynchronize(in), "saying");
  }

 private:
  std::size_t rank_;
  sayings& own_;
  sayings const& other_;
};
}  // namespace

TEMPLATE_TEST_CASE("sums and moments over rows on a GPU", "", fp32, bf16) {
  if (!has_gpu()) return;
  context<cuda<TestType>> on;
  context<judge> plain(1);
  struct size {
    std::size_t rows, channels;
    double mean;
  };
  for (auto const [rows, channels, mean] : {size{1, 1, 0.5}, size{7, 5, 0.5}, size{255, 16, 0.5}, size{1000, 24, -3},
                                            size{513, 520, 0.5}, size{20000, 8, 0.5}, size{6000, 3, 1e4}}) {
    CAPTURE(rows, channels, mean);
    std::size_t const r = rows, c = channels;
    auto const x = normal_of<value<TestType>>(r * c, 1, mean);
    auto const found = both_orders([&] {
      on_device<value<TestType>> in(x);
      on_device<float> sums(c), means(c), variances(c);
      device_scratch scratch(scratch_size<cuda<TestType>>::channels(c, r), 1);
      channel_sums(on, r, c, in.data(), sums.data(), scratch);
      channel_moments(on, r, c, in.data(), means.data(), variances.data(), scratch);
      scratch.check(on);
      return joined({sums.values(on), means.values(on), variances.values(on)});
    });
    std::vector<double> sums(c), means(c), variances(c);
    channel_sums(plain, r, c, in_double(x).data(), sums.data(), nullptr);
    channel_moments(plain, r, c, in_double(x).data(), means.data(), variances.data(), nullptr);
    check_parts(found, {sums, means, variances}, {1e-6, 1e-6, 1e-6});
  }
}

TEMPLATE_TEST_CASE("batch norm, rectifier and pooling on a GPU", "", fp32, bf16) {
  if (!has_gpu()) return;
  using T = value<TestType>;
  context<cuda<TestType>> on;
  context<judge> plain(1);
  pool_dims const lengths[] = {{2, 6, 8, 16, {1, 1}, {1, 1}},  {2, 6, 8, 16, {2, 2}, {2, 2}},
                               {2, 7, 9, 24, {2, 2}, {2, 2}},  {1, 3, 2, 5, {2, 2}, {2, 2}},
                               {3, 5, 4, 32, {5, 4}, {5, 4}},  {2, 9, 7, 13, {3, 2}, {2, 1}},
                               {1, 1, 1, 1, {1, 1}, {1, 1}},   {2, 9, 12, 17, {9, 12}, {1, 1}},
                               {3, 20, 31, 8, {1, 1}, {1, 1}}, {2, 20, 31, 264, {2, 2}, {2, 2}},
                               {3, 13, 17, 264, {13, 17}, {1, 1}}};
  for (auto const& d : lengths)
    for (bool const relu : {false, true}) {
      CAPTURE(d.height, d.width, d.channels, d.window.height, d.window.width, relu);
      std::size_t const c = d.channels, outputs = d.batch * d.out_height() * d.out_width() * c;
      auto const x = normal_of<T>(d.rows() * c, 1, 0.5, 2), dy = normal_of<T>(outputs, 2);
      auto const gamma = normal_of<float>(c, 3), beta = normal_of<float>(c, 4);
      auto const old_mean = normal_of<float>(c, 5), old_variance = normal_of<float>(c, 6, 3, 0.3);
      std::vector<double> mean(c), variance(c),
          running_mean = in_double(old_mean), running_variance = in_double(old_variance), scale(c), shift(c),
          inverse_std(c), y(outputs), dx(x.size()), dgamma(c), dbeta(c), eval_scale(c), eval_shift(c);
      auto const wide_gamma = in_double(gamma), wide_beta = in_double(beta);
      channel_moments(plain, d.rows(), c, in_double(x).data(), mean.data(), variance.data(), nullptr);
      batch_norm_train_coefficients(plain, d.rows(), c, 1e-5, 0.1, mean.data(), variance.data(), wide_gamma.data(),
                                    wide_beta.data(), running_mean.data(), running_variance.data(), scale.data(),
                                    shift.data(), inverse_std.data());
      batch_norm_eval_coefficients(plain, c, 1e-5, running_mean.data(), running_variance.data(), wide_gamma.data(),
                                   wide_beta.data(), wide_beta.data(), eval_scale.data(), eval_shift.data());
      affine_pool_forward(plain, d, in_double(x).data(), scale.data(), shift.data(), relu, y.data());
      batch_norm_relu_pool_backward(
          plain, d, in_double(x).data(),
          norm_state<double>{mean.data(), inverse_std.data(), wide_gamma.data(), wide_beta.data()}, relu,
          in_double(dy).data(), dx.data(), dgamma.data(), dbeta.data(), nullptr);

      auto const found = both_orders([&] {
        on_device<T> in(x), from(dy), out(outputs), gradient(x.size());
        on_device<float> g(gamma), b(beta), m(c), v(c), rm(old_mean), rv(old_variance), s(c), h(c), i(c), dg(c), db(c),
            es(c), eh(c);
        device_scratch scratch(scratch_size<cuda<TestType>>::channels(c, d.height * d.width), d.batch);
        channel_moments(on, d.rows(), c, in.data(), m.data(), v.data(), scratch);
        batch_norm_train_coefficients(on, d.rows(), c, 1e-5, 0.1, m.data(), v.data(), g.data(), b.data(), rm.data(),
                                      rv.data(), s.data(), h.data(), i.data());
        batch_norm_eval_coefficients(on, c, 1e-5, rm.data(), rv.data(), g.data(), b.data(), b.data(), es.data(),
                                     eh.data());
        affine_pool_forward(on, d, in.data(), s.data(), h.data(), relu, out.data());
        batch_norm_relu_pool_backward(on, d, in.data(), norm_state<float>{m, i, g, b}, relu, from.data(),
                                      gradient.data(), dg.data(), db.data(), scratch);
        scratch.check(on);
        return joined({out.values(on), gradient.values(on), dg.values(on), db.values(on), rm.values(on), rv.values(on),
                       es.values(on), eh.values(on)});
      });
      // One row leaves no variance: what is left of dx is rounding, 300 times as large as elsewhere. Where windows
      // overlap, the sum of a pixel's gradients is stored before it is added up.
      bool const overlap = d.stride.width < d.window.width && d.out_width() > 1;
      double const alone = d.rows() == 1 ? 4e-3 : stored_as<TestType>, rounding = d.rows() == 1 ? 1e30 : 2 * alone;
      double const sums = overlap && std::is_same_v<TestType, bf16> ? stored_as<TestType> : 1e-5;
      check_parts(found, {y, dx, dgamma, dbeta, running_mean, running_variance, eval_scale, eval_shift},
                  {alone, rounding, sums, sums, kept, kept, kept, kept});
    }
}

TEMPLATE_TEST_CASE("batch norm over two GPUs' batches is that over one of both", "", fp32, bf16) {
  if (!has_gpu()) return;
  using T = value<TestType>;
  context<judge> plain(1);
  for (auto const& d : std::initializer_list<pool_dims>{
           {4, 6, 5, 24, {2, 2}, {2, 2}}, {2, 7, 9, 16, {1, 1}, {1, 1}}, {2, 4, 4, 5, {4, 4}, {4, 4}}}) {
    CAPTURE(d.height, d.width, d.channels, d.window.height);
    std::size_t const c = d.channels, values = d.rows() * c;
    std::size_t const outputs = d.batch * d.out_height() * d.out_width() * c;
    auto const x = normal_of<T>(values, 1, 0.5), dy = normal_of<T>(outputs, 2);
    auto const gamma = normal_of<float>(c, 3, 1, 0.3), beta = normal_of<float>(c, 4);
    // Both batches as one.
    auto const wide_x = in_double(x), wide_dy = in_double(dy), g = in_double(gamma), b = in_double(beta);
    std::vector<double> mean(c), variance(c), running(c), running_variance(c), scale(c), shift(c), inverse_std(c),
        dx(values), dgamma(c), dbeta(c);
    channel_moments(plain, d.rows(), c, wide_x.data(), mean.data(), variance.data(), nullptr);
    batch_norm_train_coefficients(plain, d.rows(), c, 1e-5, 0.1, mean.data(), variance.data(), g.data(), b.data(),
                                  running.data(), running_variance.data(), scale.data(), shift.data(),
                                  inverse_std.data());
    batch_norm_relu_pool_backward(plain, d, wide_x.data(),
                                  norm_state<double>{mean.data(), inverse_std.data(), g.data(), b.data()}, true,
                                  wide_dy.data(), dx.data(), dgamma.data(), dbeta.data(), nullptr);
    pool_dims half = d;
    half.batch /= 2;
    // Each half as one GPU has it. What a message from the other one holds is known once that one has got so far: of
    // the moments in the second round, of the sums in the third.
    std::vector<std::vector<float>> said[2];
    std::vector<float> found[2];
    for (int round = 0; round != 3; ++round)
      for (std::size_t rank : {0u, 1u}) {
        context<cuda<TestType>> on;
        remembered group(rank, said[rank], said[1 - rank]);
        auto const part = [&](auto const& all) {
          auto const size = static_cast<std::ptrdiff_t>(all.size() / 2);
          return std::vector<float>(all.begin() + static_cast<std::ptrdiff_t>(rank) * size,
                                    all.begin() + static_cast<std::ptrdiff_t>(rank + 1) * size);
        };
        on_device<T> in(part(x)), from(part(dy)), gradient(values / 2);
        on_device<float> m(c), v(c), gains(gamma), biases(beta), rm(std::vector<float>(c, 0.0f)),
            rv(std::vector<float>(c, 0.0f)), s(c), h(c), i(c), dg(c), db(c);
        device_scratch scratch(scratch_size<cuda<TestType>>::channels(c, half.height * half.width), half.batch);
        channel_moments(on, half.rows(), c, in.data(), m.data(), v.data(), scratch);
        device_scratch room(fixed<std::byte>(on.norm_room(group, c)), 1);
        on.norm_over(&group, room);
        batch_norm_join_moments(on, c, m.data(), v.data());
        batch_norm_train_coefficients(on, d.rows(), c, 1e-5, 0.1, m.data(), v.data(), gains.data(), biases.data(),
                                      rm.data(), rv.data(), s.data(), h.data(), i.data());
        batch_norm_relu_pool_backward(on, half, in.data(), norm_state<float>{m, i, gains, biases}, true, from.data(),
                                      gradient.data(), dg.data(), db.data(), scratch);
        scratch.check(on), room.check(on);
        found[rank] = joined({gradient.values(on), dg.values(on), db.values(on), rm.values(on), rv.values(on)});
      }
    auto const slice = [](std::vector<float> const& of, std::size_t first, std::size_t count) {
      auto const from = of.begin() + static_cast<std::ptrdiff_t>(first);
      return std::vector<float>(from, from + static_cast<std::ptrdiff_t>(count));
    };
    for (std::size_t rank : {0u, 1u}) {
      std::vector<double> const own(dx.begin() + static_cast<std::ptrdiff_t>(rank * values / 2),
                                    dx.begin() + static_cast<std::ptrdiff_t>((rank + 1) * values / 2));
      REQUIRE(found[rank].size() == values / 2 + 4 * c);
      CHECK(apart(slice(found[rank], 0, values / 2), own) < 2 * stored_as<TestType>);
      CHECK(apart(slice(found[rank], values / 2 + 2 * c, c), running) < kept);
      CHECK(apart(slice(found[rank], values / 2 + 3 * c, c), running_variance) < kept);
    }
    // The sums are each one's own; both together are the whole's.
    std::vector<float> sums(2 * c);
    for (std::size_t k = 0; k != 2 * c; ++k) sums[k] = found[0][values / 2 + k] + found[1][values / 2 + k];
    CHECK(apart(slice(sums, 0, c), dgamma) < 1e-4);
    CHECK(apart(slice(sums, c, c), dbeta) < 1e-4);
  }
}

TEMPLATE_TEST_CASE("max pooling and the rectifier on a GPU are exactly the plain loops'", "", fp32, bf16) {
  if (!has_gpu()) return;
  using T = value<TestType>;
  context<cuda<TestType>> on;
  context<reference<float>> plain(1);
  pool_dims const lengths[] = {{2, 7, 9, 24, {2, 2}, {2, 2}},     {1, 3, 2, 5, {2, 2}, {2, 2}},
                               {3, 5, 4, 33, {5, 4}, {5, 4}},     {1, 6, 6, 3, {3, 3}, {3, 3}},
                               {2, 8, 9, 16, {2, 3}, {3, 4}},     {1, 1, 1, 1, {1, 1}, {1, 1}},
                               {2, 33, 24, 17, {33, 24}, {1, 1}}, {1, 20, 20, 8, {9, 9}, {9, 9}}};
  for (auto const& d : lengths)
    for (bool const ties : {false, true}) {
      CAPTURE(d.height, d.width, d.channels, d.window.height, d.window.width, ties);
      auto x = normal_of<T>(d.rows() * d.channels, 1);
      if (ties)
        for (float& v : x) v = std::round(v);
      std::size_t const outputs = d.batch * d.out_height() * d.out_width() * d.channels;
      auto const dy = normal_of<T>(outputs, 2);
      std::vector<float> y(outputs), dx(x.size()), r(x.size()), dr(x.size());
      max_pool_forward(plain, d, x.data(), y.data());
      max_pool_backward(plain, d, x.data(), dy.data(), dx.data());
      relu_forward(plain, x.size(), x.data(), r.data());
      relu_backward(plain, x.size(), r.data(), x.data(), dr.data());
      auto const found = both_orders([&] {
        on_device<T> in(x), out(outputs), from(dy), back(x.size()), rectified(x.size()), rectified_back(x.size());
        max_pool_forward(on, d, in.data(), out.data());
        max_pool_backward(on, d, in.data(), from.data(), back.data());
        relu_forward(on, x.size(), in.data(), rectified.data());
        relu_backward(on, x.size(), rectified.data(), in.data(), rectified_back.data());
        return joined({out.values(on), back.values(on), rectified.values(on), rectified_back.values(on)});
      });
      CHECK(found == joined({y, dx, r, dr}));
    }
}

TEMPLATE_TEST_CASE("dense products on a GPU", "", fp32, bf16) {
  if (!has_gpu()) return;
  using T = value<TestType>;
  context<cuda<TestType>> on;
  context<judge> plain(1);
  for (auto const& d :
       {dense_dims{1, 1, 1}, dense_dims{5, 33, 17}, dense_dims{40, 64, 128, 128}, dense_dims{16, 512, 20, 1024}}) {
    CAPTURE(d.batch, d.in, d.out, d.weight_stride);
    auto const x = normal_of<T>(d.batch * d.in, 1);
    auto const w = normal_of<float>(d.out * d.weight_stride, 2), bias = normal_of<float>(d.out, 3),
               dy = normal_of<float>(d.batch * d.out, 4);
    std::vector<double> y(d.batch * d.out), dx(x.size()), dw = in_double(w);
    auto const wide_w = in_double(w), wide_dy = in_double(dy), wide_x = in_double(x), wide_bias = in_double(bias);
    dense_forward(plain, d, wide_x.data(), wide_w.data(), wide_bias.data(), y.data(), nullptr);
    dense_backward_data(plain, d, wide_dy.data(), wide_w.data(), dx.data(), nullptr);
    dense_backward_weights(plain, d, wide_x.data(), wide_dy.data(), dw.data(), nullptr);
    auto const found = both_orders([&] {
      on_device<T> in(x), back(x.size());
      on_device<float> weights(w), b(bias), out(d.batch * d.out), from(dy), gradient(w);
      dense_forward(on, d, in.data(), weights.data(), b.data(), out.data(), nullptr);
      dense_backward_data(on, d, from.data(), weights.data(), back.data(), nullptr);
      dense_backward_weights(on, d, in.data(), from.data(), gradient.data(), nullptr);
      return joined({out.values(on), back.values(on), gradient.values(on)});
    });
    check_parts(found, {y, dx, dw}, {kept, stored_as<TestType>, kept});
  }
}

TEST_CASE("the fusion head's pairs and their loss on a GPU") {
  if (!has_gpu()) return;
  context<cuda<fp32>> on;
  context<judge> plain(1);
  for (auto const& d :
       {pair_dims{1, 16, 2, pairing::all}, pair_dims{5, 16, 2, pairing::paper}, pair_dims{33, 40, 2, pairing::all},
        pair_dims{3, 128, 3, pairing::all, 10}, pair_dims{70, 33, 2, pairing::paper}}) {
    CAPTURE(d.batch, d.sounds(), d.hidden, d.classes, d.which == pairing::all);
    auto const u = normal_of<float>(d.batch * d.hidden, 1), t = normal_of<float>(d.sounds() * d.hidden, 2),
               b1 = normal_of<float>(d.hidden, 3), w2 = normal_of<float>(d.classes * d.hidden, 4),
               b2 = normal_of<float>(d.classes, 5), weights = normal_of<float>(d.rows(), 6, 1, 0.1);
    std::vector<std::int32_t> labels(d.rows());
    for (std::size_t row = 0; row < d.rows(); ++row) labels[row] = static_cast<std::int32_t>(row * 7 % d.classes);
    std::vector<double> logits(d.rows() * d.classes), dlogits(logits.size()), du(u.size()), dt(t.size()),
        db1(b1.size()), dw2(w2.size()), db2(b2.size());
    auto const wu = in_double(u), wt = in_double(t), wb1 = in_double(b1), ww2 = in_double(w2), wb2 = in_double(b2),
               ww = in_double(weights);
    pair_scores_forward(plain, d, wu.data(), wt.data(), wb1.data(), ww2.data(), wb2.data(), logits.data());
    double const loss =
        softmax_cross_entropy(plain, d.rows(), d.classes, logits.data(), labels.data(), ww.data(), dlogits.data());
    pair_scores_backward(plain, d, wu.data(), wt.data(), wb1.data(), ww2.data(), dlogits.data(), du.data(), dt.data(),
                         db1.data(), dw2.data(), db2.data(), nullptr);
    auto const found = both_orders([&] {
      on_device<float> gu(u), gt(t), gb1(b1), gw2(w2), gb2(b2), gw(weights), l(logits.size()), dl(logits.size()),
          gdu(u.size()), gdt(t.size()), gdb1(b1.size()), gdw2(w2.size()), gdb2(b2.size());
      on_device<std::int32_t> of(labels.size());
      upload(on, labels.size(), labels.data(), of.data());
      device_scratch scratch(scratch_size<cuda<fp32>>::pairs({0, d.hidden, d.classes, d.which}), d.batch);
      pair_scores_forward(on, d, gu.data(), gt.data(), gb1.data(), gw2.data(), gb2.data(), l.data());
      double const sum = softmax_cross_entropy(on, d.rows(), d.classes, l.data(), of.data(), gw.data(), dl.data());
      pair_scores_backward(on, d, gu.data(), gt.data(), gb1.data(), gw2.data(), dl.data(), gdu.data(), gdt.data(),
                           gdb1.data(), gdw2.data(), gdb2.data(), scratch);
      scratch.check(on);
      return joined({{static_cast<float>(sum)},
                     l.values(on),
                     dl.values(on),
                     gdu.values(on),
                     gdt.values(on),
                     gdb1.values(on),
                     gdw2.values(on),
                     gdb2.values(on)});
    });
    check_parts(found, {{loss}, logits, dlogits, du, dt, db1, dw2, db2}, std::vector<double>(8, 1e-5));
  }
}

TEST_CASE("Adam on a GPU, and whether numbers are finite") {
  if (!has_gpu()) return;
  context<cuda<bf16>> on;
  context<judge> plain(1);
  for (bool const decoupled : {false, true}) {
    adam_settings const a{.learning_rate = 1e-2, .weight_decay = 0.1, .decoupled = decoupled, .step = 3};
    auto const g = normal_of<float>(1000, 1), w = normal_of<float>(1000, 2), m = normal_of<float>(1000, 3);
    auto v = normal_of<float>(1000, 4, 3, 0.2);
    std::vector<double> ww = in_double(w), wm = in_double(m), wv = in_double(v);
    adam_update(plain, a, 1000, in_double(g).data(), ww.data(), wm.data(), wv.data());
    on_device<float> dg(g), dw(w), dm(m), dv(v);
    adam_update(on, a, 1000, dg.data(), dw.data(), dm.data(), dv.data());
    CHECK(apart(dw.values(on), ww) < 1e-6);
    CHECK(apart(dm.values(on), wm) < 1e-6);
    CHECK(apart(dv.values(on), wv) < 1e-6);
    CHECK(all_finite(on, 1000, dw.data()));
  }
  std::vector<float> x(5000, 1.0f);
  for (float const bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    x[4321] = bad;
    on_device<float> on_it(x);
    CHECK_FALSE(all_finite(on, x.size(), on_it.data()));
    CHECK(all_finite(on, 4321, on_it.data()));
  }
}

#if !defined(__CUDACC__)  // the processor cannot call what was compiled for a GPU
TEST_CASE("division by numbers that are known beforehand is exact") {
  for (std::size_t const by : {1u, 2u, 3u, 7u, 9u, 24u, 199u, 257u, 50176u, 65536u, 1000003u, 2147483647u}) {
    detail::gpu::divider const d(by);
    for (std::uint64_t n : {0ull, 1ull, by - 1ull, by + 0ull, by + 1ull, 2ull * by - 1, 2147483647ull, 1234567890ull})
      if (n < (1u << 31)) CHECK(d.quotient(static_cast<unsigned>(n)) == n / by);
  }
}
#endif

TEST_CASE("bfloat16 is the nearest one, even on a tie") {
  CHECK(static_cast<float>(bfloat16(1.0f)) == 1.0f);
  CHECK(bfloat16(1.00390625f).bits == 0x3F80);  // half way: 1 is even
  CHECK(bfloat16(1.01171875f).bits == 0x3F82);  // half way: up is even
  CHECK(bfloat16(1.004f).bits == 0x3F81);
  CHECK(bfloat16(3.4e38f).bits == 0x7F80);  // beyond the largest: infinity
  CHECK(std::isnan(static_cast<float>(bfloat16(std::numeric_limits<float>::quiet_NaN()))));
  CHECK(bfloat16(-std::numeric_limits<float>::infinity()).bits == 0xFF80);
}

TEMPLATE_TEST_CASE("columns of windows and of pictures are copied on a GPU as on a processor", "", fp32, bf16) {
  if (!has_gpu()) return;
  using B = cuda<TestType>;
  context<B> on;
  context<reference<float>> host(1);
  for (std::size_t const channels : {1, 5, 16}) {
    CAPTURE(channels);
    // Windows of 9 columns, 3 apart, of a picture that was halved twice, the second time in two phases; the last 4
    // of 5.
    picture_places const windows{4 * 12, 12, 6, 2, 1, 1}, pictures{4 * 10, 10};
    column_copy const c{4, 4, channels, windows, 2, pictures, 3, 5};
    std::vector<float> x(2 * 4 * 12 * channels), expected(4 * 4 * 10 * channels, 7.0f);
    for (std::size_t k = 0; k < x.size(); ++k) x[k] = static_cast<float>(k % 251);
    auto const found = both_orders([&] {
      on_device<value_of<B>> from(x), to(expected);
      copy_columns(on, c, static_cast<value_of<B> const*>(from.data()), to.data());
      return to.values(on);
    });
    copy_columns(host, c, x.data(), expected.data());
    CHECK(found == expected);
    CHECK(std::count(found.begin(), found.end(), 7.0f) < static_cast<std::ptrdiff_t>(found.size()));
  }
  CHECK(picture_places{100, 12, 6, 2, 1}.start(1) == 100 + 1);  // column 6: 3 after one halving, of the odd phase
  CHECK(picture_places{100, 12, 6, 2, 1}.start(2) == 3);
  CHECK(picture_places{100, 12, 8, 2, 3}.start(3) == 6);
}
