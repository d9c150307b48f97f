// Every backward kernel against central differences of its forward kernel: plain loops, in double.
#include <functional>
#include <l3/kernels/kernels.hpp>

#include "../support/kernel_inputs.hpp"

namespace {
using namespace l3;
using namespace l3::test;
using numbers = std::vector<double>;
using judge = reference<double>;

double dot(numbers const& a, numbers const& b) {
  double sum = 0;
  for (std::size_t k = 0; k < a.size(); ++k) sum += a[k] * b[k];
  return sum;
}

/// Checks that `gradient` is that of loss() for the values of x, which loss() reads.
void check_gradient(char const* of, numbers& x, numbers const& gradient, std::function<double()> const& loss) {
  constexpr double step = 1e-5;
  REQUIRE(gradient.size() == x.size());
  numbers differences(x.size());
  for (std::size_t k = 0; k < x.size(); ++k) {
    double const here = x[k];
    x[k] = here + step;
    double const above = loss();
    x[k] = here - step;
    double const below = loss();
    x[k] = here;
    differences[k] = (above - below) / (2 * step);
  }
  CAPTURE(of);
  CHECK(distance(gradient, differences) < 1e-7);
}
}  // namespace

TEST_CASE("conv2d gradients are those that finite differences find") {
  context<judge> on(1);
  for (auto const& d : {conv_dims{2, 4, 5, 3, 4}, conv_dims{1, 1, 3, 2, 2}, conv_dims{1, 3, 1, 1, 2}}) {
    auto x = normal<double>(d.rows() * d.in, 1), w = normal<double>(d.out * d.in * 9, 2);
    auto const dy = normal<double>(d.rows() * d.out, 3);
    numbers y(dy.size()), dx(x.size()), dw(w.size());
    auto const loss = [&] {
      conv2d_forward(on, d, x.data(), w.data(), nullptr, y.data(), nullptr);
      return dot(y, dy);
    };
    conv2d_backward_data(on, d, dy.data(), w.data(), dx.data(), nullptr);
    conv2d_backward_weights(on, d, x.data(), dy.data(), dw.data(), nullptr);
    check_gradient("dx", x, dx, loss);
    check_gradient("dw", w, dw, loss);
  }
}

TEST_CASE("batch norm, rectifier and pooling: gradients are those that finite differences find") {
  context<judge> on(1);
  constexpr double epsilon = 1e-3;
  for (bool relu : {false, true})
    for (auto const& d : {pool_dims{2, 3, 4, 3, {1, 1}, {1, 1}}, pool_dims{2, 5, 4, 3, {2, 2}, {2, 2}},
                          pool_dims{3, 3, 4, 2, {3, 4}, {3, 4}}, pool_dims{2, 5, 4, 2, {3, 2}, {2, 1}}}) {
      CAPTURE(relu, d.window.height, d.window.width);
      std::size_t const c = d.channels;
      auto x = normal<double>(d.rows() * c, 1, 0.5, 2), gamma = normal<double>(c, 2), beta = normal<double>(c, 3);
      auto const dy = normal<double>(d.batch * d.out_height() * d.out_width() * c, 4);
      numbers y(dy.size()), mean(c), variance(c), running_mean(c), running_variance(c), scale(c), shift(c),
          inverse_std(c), dx(x.size()), dgamma(c), dbeta(c);
      auto const loss = [&] {
        channel_moments(on, d.rows(), c, x.data(), mean.data(), variance.data(), nullptr);
        batch_norm_train_coefficients(on, d.rows(), c, epsilon, 0.1, mean.data(), variance.data(), gamma.data(),
                                      beta.data(), running_mean.data(), running_variance.data(), scale.data(),
                                      shift.data(), inverse_std.data());
        affine_pool_forward(on, d, x.data(), scale.data(), shift.data(), relu, y.data());
        return dot(y, dy);
      };
      loss();
      batch_norm_relu_pool_backward(on, d, x.data(), {mean.data(), inverse_std.data(), gamma.data(), beta.data()}, relu,
                                    dy.data(), dx.data(), dgamma.data(), dbeta.data(), nullptr);
      check_gradient("dx", x, dx, loss);
      check_gradient("dgamma", gamma, dgamma, loss);
      check_gradient("dbeta", beta, dbeta, loss);
    }
}

TEST_CASE("rectifier and pooling on their own: gradients are those that finite differences find") {
  context<judge> on(1);
  pool_dims const d{2, 9, 7, 3, {3, 2}, {2, 1}};
  auto x = normal<double>(d.rows() * d.channels, 1);
  auto const dy = normal<double>(d.batch * d.out_height() * d.out_width() * d.channels, 2);
  numbers y(dy.size()), dx(x.size());
  max_pool_backward(on, d, x.data(), dy.data(), dx.data());
  check_gradient("max_pool dx", x, dx, [&] {
    max_pool_forward(on, d, x.data(), y.data());
    return dot(y, dy);
  });

  auto const g = normal<double>(x.size(), 3);
  numbers rectified(x.size());
  auto const loss = [&] {
    relu_forward(on, x.size(), x.data(), rectified.data());
    return dot(rectified, g);
  };
  loss();
  relu_backward(on, x.size(), rectified.data(), g.data(), dx.data());
  check_gradient("relu dx", x, dx, loss);
}

TEST_CASE("dense gradients are those that finite differences find") {
  context<judge> on(1);
  dense_dims const d{3, 5, 4, 7};
  auto x = normal<double>(d.batch * d.in, 1), w = normal<double>(d.out * d.weight_stride, 2),
       bias = normal<double>(d.out, 3);
  auto const dy = normal<double>(d.batch * d.out, 4);
  numbers y(dy.size()), dx(x.size()), dw(w.size(), 0.0), dbias(d.out);
  auto const loss = [&] {
    dense_forward(on, d, x.data(), w.data(), bias.data(), y.data(), nullptr);
    return dot(y, dy);
  };
  dense_backward_data(on, d, dy.data(), w.data(), dx.data(), nullptr);
  dense_backward_weights(on, d, x.data(), dy.data(), dw.data(), nullptr);
  channel_sums(on, d.batch, d.out, dy.data(), dbias.data(), nullptr);
  check_gradient("dx", x, dx, loss);
  check_gradient("dw", w, dw, loss);
  check_gradient("dbias", bias, dbias, loss);
}

TEST_CASE("pair_scores gradients are those that finite differences find") {
  context<judge> on(1);
  for (auto const which : {pairing::paper, pairing::all}) {
    pair_dims const d{4, 6, 3, which};
    auto u = normal<double>(d.batch * d.hidden, 1), t = normal<double>(d.batch * d.hidden, 2),
         b1 = normal<double>(d.hidden, 3), w2 = normal<double>(d.classes * d.hidden, 4),
         b2 = normal<double>(d.classes, 5);
    auto const dlogits = normal<double>(d.rows() * d.classes, 6);
    numbers logits(dlogits.size()), du(u.size()), dt(t.size()), db1(b1.size()), dw2(w2.size()), db2(b2.size());
    auto const loss = [&] {
      pair_scores_forward(on, d, u.data(), t.data(), b1.data(), w2.data(), b2.data(), logits.data());
      return dot(logits, dlogits);
    };
    pair_scores_backward(on, d, u.data(), t.data(), b1.data(), w2.data(), dlogits.data(), du.data(), dt.data(),
                         db1.data(), dw2.data(), db2.data(), nullptr);
    check_gradient("du", u, du, loss);
    check_gradient("dt", t, dt, loss);
    check_gradient("db1", b1, db1, loss);
    check_gradient("dw2", w2, dw2, loss);
    check_gradient("db2", b2, db2, loss);
  }
}

TEST_CASE("softmax_cross_entropy's gradient is the one that finite differences find") {
  context<judge> on(1);
  auto logits = normal<double>(5 * 3, 1, 0, 2);
  auto weights = normal<double>(5, 2);
  std::vector<std::int32_t> const labels{0, 2, 1, 1, 0};
  numbers dlogits(logits.size());
  softmax_cross_entropy(on, 5, 3, logits.data(), labels.data(), weights.data(), dlogits.data());
  check_gradient("dlogits", logits, dlogits, [&] {
    return softmax_cross_entropy(on, 5, 3, logits.data(), labels.data(), weights.data(), static_cast<double*>(nullptr));
  });
}
