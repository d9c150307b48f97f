// The kernels against PyTorch's numbers; what they are is written at the top of tests/golden/make_goldens.py.
#include <l3/files/safetensors.hpp>
#include <l3/kernels/kernels.hpp>
#include <string>

#include "../support/kernel_inputs.hpp"

namespace {
using namespace l3;
using namespace l3::test;

using golden_backends = std::tuple<reference<float>, reference<double>, cpu>;
constexpr double near = 2e-6;  // of the largest value; goldens are rounded to float

safetensors_file const& goldens() {
  static auto const file = safetensors_file::open(L3_SOURCE_DIR "/tests/golden/layers.safetensors");
  return file;
}
std::vector<std::size_t> shape(std::string const& name) { return goldens().entry(name).shape; }

template <class S = double>
std::vector<S> golden(std::string const& name) {
  std::size_t count = 1;
  for (auto const side : shape(name)) count *= side;
  std::vector<float> values(count);
  goldens().read(name, std::span(values), shape(name));
  return {values.begin(), values.end()};
}

/// Images of a golden as pooling sizes.
pool_dims pool_of(std::string const& x, extent2 window, extent2 stride) {
  auto const s = shape(x);
  return {s[0], s[1], s[2], s[3], window, stride};
}
}  // namespace

TEMPLATE_LIST_TEST_CASE("convolutions give PyTorch's numbers", "", golden_backends) {
  using S = scalar_of<TestType>;
  context<TestType> on(2);
  for (std::string const name : {"conv_a", "conv_b", "conv_c", "conv_d"}) {
    CAPTURE(name);
    auto const s = shape(name + ".x");
    conv_dims const d{s[0], s[1], s[2], s[3], shape(name + ".w")[0]};
    auto const x = golden<S>(name + ".x"), w = golden<S>(name + ".w"), dy = golden<S>(name + ".dy");
    output<S> y(dy.size()), dx(x.size()), dw(w.size());
    scratch_memory forward(scratch_size<TestType>::conv2d_forward(d), d.batch, 2);
    scratch_memory backward(scratch_size<TestType>::conv2d_backward(d), d.batch, 2);
    conv2d_forward(on, d, x.data(), w.data(), nullptr, y.data(), forward);
    conv2d_backward_data(on, d, dy.data(), w.data(), dx.data(), backward);
    conv2d_backward_weights(on, d, x.data(), dy.data(), dw, backward);
    CHECK(distance(y.values(), golden(name + ".y")) < near);
    CHECK(distance(dx.values(), golden(name + ".dx")) < near);
    CHECK(distance(dw.values(), golden(name + ".dw")) < near);
  }
}

namespace {
/// Batch norm in training on rows of x, as the layers run it.
template <class B>
struct trained_norm {
  using S = scalar_of<B>;
  output<S> mean, variance, scale, shift, inverse_std;
  trained_norm(context<B>& on, std::size_t rows, std::size_t channels, S const* x, std::vector<S> const& gamma,
               std::vector<S> const& beta, std::vector<S>& running_mean, std::vector<S>& running_variance)
      : mean(channels), variance(channels), scale(channels), shift(channels), inverse_std(channels) {
    scratch_memory scratch(scratch_size<B>::channels(channels, rows), 1, on.threads());
    channel_moments(on, rows, channels, x, mean.data(), variance.data(), scratch);
    batch_norm_train_coefficients(on, rows, channels, 1e-5, 0.1, mean.data(), variance.data(), gamma.data(),
                                  beta.data(), running_mean.data(), running_variance.data(), scale.data(), shift.data(),
                                  inverse_std.data());
  }
};
}  // namespace

TEMPLATE_LIST_TEST_CASE("batch norm gives PyTorch's numbers", "", golden_backends) {
  using S = scalar_of<TestType>;
  context<TestType> on(2);
  std::string const name = "batch_norm.";
  auto const d = pool_of(name + "x", {1, 1}, {1, 1});
  auto const x = golden<S>(name + "x"), gamma = golden<S>(name + "gamma"), beta = golden<S>(name + "beta"),
             dy = golden<S>(name + "dy");
  auto running_mean = golden<S>(name + "initial_mean"), running_variance = golden<S>(name + "initial_var");
  trained_norm<TestType> norm(on, d.rows(), d.channels, x.data(), gamma, beta, running_mean, running_variance);
  CHECK(distance(running_mean, golden(name + "running_mean")) < near);
  CHECK(distance(running_variance, golden(name + "running_var")) < near);

  output<S> y(x.size()), dx(x.size()), dgamma(d.channels), dbeta(d.channels), y_eval(x.size()), scale(d.channels),
      shift(d.channels);
  affine_pool_forward(on, d, x.data(), norm.scale.data(), norm.shift.data(), false, y.data());
  CHECK(distance(y.values(), golden(name + "y")) < near);
  scratch_memory scratch(scratch_size<TestType>::channels(d.channels, d.height * d.width), d.batch, 2);
  batch_norm_relu_pool_backward(on, d, x.data(), {norm.mean, norm.inverse_std, gamma.data(), beta.data()}, false,
                                dy.data(), dx.data(), dgamma, dbeta, scratch);
  CHECK(distance(dx.values(), golden(name + "dx")) < near);
  CHECK(distance(dgamma.values(), golden(name + "dgamma")) < near);
  CHECK(distance(dbeta.values(), golden(name + "dbeta")) < near);

  batch_norm_eval_coefficients(on, d.channels, 1e-5, running_mean.data(), running_variance.data(), gamma.data(),
                               beta.data(), nullptr, scale.data(), shift.data());
  affine_pool_forward(on, d, x.data(), scale.data(), shift.data(), false, y_eval.data());
  CHECK(distance(y_eval.values(), golden(name + "y_eval")) < near);
}

TEMPLATE_LIST_TEST_CASE("rectifier and pooling give PyTorch's numbers", "", golden_backends) {
  using S = scalar_of<TestType>;
  context<TestType> on(2);
  {
    auto const x = golden<S>("relu.x"), dy = golden<S>("relu.dy");
    output<S> y(x.size()), dx(x.size());
    relu_forward(on, x.size(), x.data(), y);
    relu_backward(on, x.size(), y.data(), dy.data(), dx);
    CHECK(distance(y.values(), golden("relu.y")) == 0);
    CHECK(distance(dx.values(), golden("relu.dx")) == 0);
  }
  struct pooling {
    std::string name;
    pool_dims d;
  };
  for (auto const& [name, d] : {pooling{"max_pool_a", pool_of("max_pool_a.x", {2, 2}, {2, 2})},
                                pooling{"max_pool_b", pool_of("max_pool_b.x", {3, 2}, {2, 1})},
                                pooling{"max_pool_ties", pool_of("max_pool_ties.x", {2, 2}, {2, 2})},
                                pooling{"global_max", pool_of("global_max.x", {5, 4}, {5, 4})}}) {
    CAPTURE(name);
    auto const x = golden<S>(name + ".x"), dy = golden<S>(name + ".dy");
    output<S> y(dy.size()), dx(x.size());
    max_pool_forward(on, d, x.data(), y);
    max_pool_backward(on, d, x.data(), dy.data(), dx);
    CHECK(distance(y.values(), golden(name + ".y")) == 0);
    CHECK(distance(dx.values(), golden(name + ".dx")) < near);
  }
}

TEMPLATE_LIST_TEST_CASE("a dense layer gives PyTorch's numbers", "", golden_backends) {
  using S = scalar_of<TestType>;
  context<TestType> on(2);
  auto const x = golden<S>("linear.x"), w = golden<S>("linear.w"), b = golden<S>("linear.b"),
             dy = golden<S>("linear.dy");
  dense_dims const d{4, 10, 7};
  output<S> y(dy.size()), dx(x.size()), dw(w.size()), db(b.size());
  scratch_memory scratch(scratch_size<TestType>::dense(d), d.batch, 2);
  scratch_memory sums(scratch_size<TestType>::channels(d.out, 1), d.batch, 2);
  dense_forward(on, d, x.data(), w.data(), b.data(), y, scratch);
  dense_backward_data(on, d, dy.data(), w.data(), dx, scratch);
  dense_backward_weights(on, d, x.data(), dy.data(), dw, scratch);
  channel_sums(on, d.batch, d.out, dy.data(), db, sums);
  CHECK(distance(y.values(), golden("linear.y")) < near);
  CHECK(distance(dx.values(), golden("linear.dx")) < near);
  CHECK(distance(dw.values(), golden("linear.dw")) < near);
  CHECK(distance(db.values(), golden("linear.db")) < near);
}

TEMPLATE_LIST_TEST_CASE("losses give PyTorch's numbers", "", golden_backends) {
  using S = scalar_of<TestType>;
  context<TestType> on(2);
  auto const check = [&](std::string const& name, std::size_t rows, std::vector<std::int32_t> const& labels,
                         std::vector<S> const& weights) {
    CAPTURE(name);
    auto const logits = golden<S>(name + ".logits");
    output<S> dlogits(logits.size());
    double const loss = softmax_cross_entropy(on, rows, logits.size() / rows, logits.data(), labels.data(),
                                              weights.data(), dlogits.data());
    CHECK(loss == Approx(golden(name + ".loss")[0]).epsilon(near));
    CHECK(distance(dlogits.values(), golden(name + ".dlogits")) < near);
    CHECK(softmax_cross_entropy(on, rows, logits.size() / rows, logits.data(), labels.data(), weights.data(),
                                static_cast<S*>(nullptr)) == loss);
  };
  for (std::string const name : {"cross_entropy_a", "cross_entropy_b", "cross_entropy_extreme"}) {
    std::size_t const rows = shape(name + ".labels")[0];
    std::vector<std::int64_t> labels(rows);
    goldens().read(name + ".labels", std::span(labels), {rows});
    check(name, rows, {labels.begin(), labels.end()}, std::vector<S>(rows, S{1} / static_cast<S>(rows)));
  }
  std::vector<std::int32_t> labels(16);
  std::vector<S> weights(16);
  for (std::size_t row = 0; row < 16; ++row) {
    labels[row] = row / 4 == row % 4 ? 1 : 0;
    weights[row] = labels[row] == 1 ? S{0.5} / 4 : S{0.5} / 12;
  }
  check("loss_all", 16, labels, weights);
}

TEMPLATE_LIST_TEST_CASE("convolution, batch norm, rectifier and pooling together give PyTorch's numbers", "",
                        golden_backends) {
  using S = scalar_of<TestType>;
  context<TestType> on(2);
  conv_dims const d{2, 7, 6, 3, 4};
  auto const pool = pool_dims{d.batch, d.height, d.width, d.out, {2, 2}, {2, 2}};
  auto const x = golden<S>("fused.x"), w = golden<S>("fused.w"), gamma = golden<S>("fused.gamma"),
             beta = golden<S>("fused.beta"), dy = golden<S>("fused.dy");
  std::vector<S> running_mean(d.out, S{0}), running_variance(d.out, S{1});
  output<S> z(d.rows() * d.out), y(dy.size()), dz(d.rows() * d.out), dx(x.size()), dw(w.size()), dgamma(d.out),
      dbeta(d.out);
  scratch_memory forward(scratch_size<TestType>::conv2d_forward(d), d.batch, 2);
  scratch_memory backward(scratch_size<TestType>::conv2d_backward(d), d.batch, 2);
  scratch_memory sums(scratch_size<TestType>::channels(d.out, d.height * d.width), d.batch, 2);
  conv2d_forward(on, d, x.data(), w.data(), nullptr, z.data(), forward);
  trained_norm<TestType> norm(on, d.rows(), d.out, z.data(), gamma, beta, running_mean, running_variance);
  affine_pool_forward(on, pool, z.data(), norm.scale.data(), norm.shift.data(), true, y.data());
  CHECK(distance(y.values(), golden("fused.y")) < near);
  CHECK(distance(running_mean, golden("fused.running_mean")) < near);
  CHECK(distance(running_variance, golden("fused.running_var")) < near);
  batch_norm_relu_pool_backward(on, pool, z.data(), {norm.mean, norm.inverse_std, gamma.data(), beta.data()}, true,
                                dy.data(), dz.data(), dgamma, dbeta, sums);
  conv2d_backward_data(on, d, dz.data(), w.data(), dx.data(), backward);
  conv2d_backward_weights(on, d, x.data(), dz.data(), dw, backward);
  CHECK(distance(dgamma.values(), golden("fused.dgamma")) < near);
  CHECK(distance(dbeta.values(), golden("fused.dbeta")) < near);
  CHECK(distance(dx.values(), golden("fused.dx")) < near);
  CHECK(distance(dw.values(), golden("fused.dw")) < near);

  // Inference: batch norm folded into the convolution's weights and the convolution's epilogue.
  output<S> scale(d.out), shift(d.out), y_eval(dy.size());
  batch_norm_eval_coefficients(on, d.out, 1e-5, running_mean.data(), running_variance.data(), gamma.data(), beta.data(),
                               nullptr, scale.data(), shift.data());
  std::vector<std::byte> prepared(scratch_size<TestType>::conv2d_prepared(d).fixed);
  conv2d_prepare(on, d, w.data(), scale.data(), prepared.data());
  scratch_memory infer(scratch_size<TestType>::conv2d_infer(d), d.batch, 2);
  conv2d_infer(on, d, x.data(), prepared.data(), {shift.data(), true}, z, infer);
  max_pool_forward(on, pool, z.data(), y_eval);
  CHECK(distance(y_eval.values(), golden("fused.y_eval")) < near);
}

TEMPLATE_LIST_TEST_CASE("Adam gives PyTorch's numbers", "", golden_backends) {
  using S = scalar_of<TestType>;
  context<TestType> on(2);
  struct variant {
    std::string name;
    double decay;
    bool decoupled;
  };
  auto const g = golden<S>("adam.g");
  for (auto const& [name, decay, decoupled] :
       {variant{"adam", 0, false}, variant{"adam_l2", 1e-5, false}, variant{"adamw", 1e-2, true}}) {
    CAPTURE(name);
    auto w = golden<S>("adam.w");
    std::vector<S> m(w.size(), S{0}), v(w.size(), S{0}), after;
    for (std::uint64_t step = 1; step <= 3; ++step) {
      adam_settings const a{.learning_rate = 1e-3, .weight_decay = decay, .decoupled = decoupled, .step = step};
      adam_update(on, a, w.size(), g.data() + (step - 1) * w.size(), w.data(), m.data(), v.data());
      after.insert(after.end(), w.begin(), w.end());
    }
    CHECK(distance(after, golden(name + ".after")) < near);
    auto const exp_avg = golden(name + ".exp_avg"), exp_avg_sq = golden(name + ".exp_avg_sq");
    for (std::size_t k = 0; k < w.size(); ++k) {  // one by one: they span sixteen orders of magnitude
      CAPTURE(k);
      CHECK(static_cast<double>(m[k]) == Approx(exp_avg[k]).epsilon(1e-5).margin(1e-12));
      CHECK(static_cast<double>(v[k]) == Approx(exp_avg_sq[k]).epsilon(1e-5).margin(1e-20));
    }
  }
}
