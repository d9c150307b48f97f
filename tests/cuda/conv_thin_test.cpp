/// @file  tests/cuda/conv_thin_test.cpp: a first layer whose output is never written, on a GPU, against the plain loops
/// in double, one operation after the other.
#include "../support/device.hpp"

namespace {
using namespace l3;
using namespace l3::test;
using judge = reference<double>;

constexpr conv_dims sizes[] = {{2, 5, 7, 3, 64},   {3, 4, 4, 3, 16},   {1, 9, 13, 1, 64},
                               {2, 6, 5, 3, 32},   {1, 3, 5, 1, 16},   {5, 31, 29, 1, 32},
                               {1, 70, 67, 3, 64}, {3, 41, 67, 3, 32}, {1, 130, 131, 1, 16},
#if defined(__CUDACC__)  // several steps for each warp of a large GPU
                               {8, 130, 131, 3, 64}, {9, 140, 123, 1, 64}
#endif
};

/// Two processes, the other one of which has three times the sums that this one has.
template <class Group>
class lopsided : public Group {
 public:
  std::size_t rank() const override { return 0; }
  std::size_t size() const override { return 2; }
};
class lopsided_host final : public lopsided<process_group> {
 public:
  void gather(std::span<std::byte const> mine, std::span<std::byte> all) override {
    std::size_t const count = mine.size() / sizeof(double);
    auto const* const from = reinterpret_cast<double const*>(mine.data());
    auto* const to = reinterpret_cast<double*>(all.data());
    for (std::size_t k = 0; k != count; ++k) to[k] = from[k], to[count + k] = 3 * from[k];
  }
  void sum_parts(std::span<float const>, std::span<float>) override { FAIL("is not asked for"); }
  void begin_mean(std::span<float>, float) override { FAIL("is not asked for"); }
  void poke() override {}
  void finish_sums() override {}
};
template <class = void>
__global__ void lopsided_copies(std::size_t count, float const* from, float* to) {
  for (std::size_t k = threadIdx.x; k < count; k += blockDim.x) to[k] = from[k], to[count + k] = 3 * from[k];
}
class lopsided_gpu final : public lopsided<gpu_group> {
 public:
  void gather(void const* mine, void* all, std::size_t bytes, cudaStream_t in) override {
    detail::gpu::launch(in, lopsided_copies<>, dim3(1), 64, 0, bytes / sizeof(float), static_cast<float const*>(mine),
                        static_cast<float*>(all));
  }
  void mean(float*, std::size_t, float, cudaStream_t) override { FAIL("is not asked for"); }
  void sum_parts(float const*, float*, std::size_t, cudaStream_t) override { FAIL("is not asked for"); }
};
}  // namespace

TEST_CASE("a first layer computed again where it is needed, on a GPU") {
  if (!has_gpu()) return;
  context<cuda<bf16>> on;
  context<judge> plain(1);
  lopsided_host host_group;
  lopsided_gpu group;
  for (auto const& d : sizes)
    for (auto const& [rectified, in_group] :
         std::initializer_list<std::pair<bool, bool>>{{true, false}, {false, false}, {true, true}}) {
      bool const relu = rectified, together = in_group;  // clang before 16 lets no lambda use the names above
      CAPTURE(d.batch, d.height, d.width, d.in, d.out, relu, together);
      REQUIRE(scratch_size<cuda<bf16>>::conv2d_is_thin(d));
      std::size_t const n = d.out, outputs = d.rows() * n;
      auto const x = normal_of<bfloat16>(d.rows() * d.in, 1, 0.3), w = normal_of<bfloat16>(n * d.in * 9, 2, 0.1, 0.3),
                 dy = normal_of<bfloat16>(outputs, 3, 0.1);
      auto const gamma = normal_of<float>(n, 4, 1, 0.3), beta = normal_of<float>(n, 5, 0, 0.5);
      std::vector<double> z(outputs), mean(n), variance(n), running(n), running_variance(n), scale(n), shift(n),
          inverse_std(n), y(outputs), dz(outputs), dgamma(n), dbeta(n), dw(w.size());
      auto const wide_x = in_double(x), wide_w = in_double(w), wide_dy = in_double(dy), g = in_double(gamma),
                 b = in_double(beta);
      conv2d_forward(plain, d, wide_x.data(), wide_w.data(), nullptr, z.data(), nullptr);
      channel_moments(plain, d.rows(), n, z.data(), mean.data(), variance.data(), nullptr);
      batch_norm_train_coefficients(plain, d.rows(), n, 1e-5, 0.1, mean.data(), variance.data(), g.data(), b.data(),
                                    running.data(), running_variance.data(), scale.data(), shift.data(),
                                    inverse_std.data());
      pool_dims const none{d.batch, d.height, d.width, n, {1, 1}, {1, 1}};
      affine_pool_forward(plain, none, z.data(), scale.data(), shift.data(), relu, y.data());
      plain.norm_over(together ? &host_group : nullptr);
      batch_norm_relu_pool_backward(plain, none, z.data(),
                                    norm_state<double>{mean.data(), inverse_std.data(), g.data(), b.data()}, relu,
                                    wide_dy.data(), dz.data(), dgamma.data(), dbeta.data(), nullptr);
      conv2d_backward_weights(plain, d, wide_x.data(), dz.data(), dw.data(), nullptr);

      auto const found = both_orders([&] {
        on_device<bfloat16> in(x), from(dy), out(outputs);
        on_device<float> weights(w), gains(gamma), biases(beta), m(n), v(n), rm(std::vector<float>(n, 0.0f)),
            rv(std::vector<float>(n, 0.0f)), s(n), h(n), i(n), dg(n), db(n), dweights(w.size());
        device_scratch scratch(scratch_size<cuda<bf16>>::conv2d_thin(d), d.batch);
        device_scratch kept(scratch_size<cuda<bf16>>::conv2d_thin_kept(d), d.batch);
        conv2d_thin_moments(on, d, in.data(), weights.data(), m.data(), v.data(), kept, scratch);
        batch_norm_train_coefficients(on, d.rows(), n, 1e-5, 0.1, m.data(), v.data(), gains.data(), biases.data(),
                                      rm.data(), rv.data(), s.data(), h.data(), i.data());
        conv2d_thin_forward(on, d, in.data(), weights.data(), s.data(), h.data(), relu, out.data());
        device_scratch room(fixed<std::byte>(on.norm_room(group, n)), 1);
        on.norm_over(together ? &group : nullptr, room);
        conv2d_thin_backward(on, d, in.data(), weights.data(), norm_state<float>{m, i, gains, biases}, relu,
                             from.data(), dweights.data(), dg.data(), db.data(), kept, scratch);
        scratch.check(on), kept.check(on);
        return joined({m.values(on), v.values(on), out.values(on), dg.values(on), db.values(on), dweights.values(on)});
      });
      // Where the normalised value is nearly 0 the rectifier may decide otherwise than in double.
      double const sums = relu ? 1e-3 : 1e-5;
      check_parts(found, {mean, variance, y, dgamma, dbeta, dw}, {2e-6, 2e-6, 4.5e-3, sums, sums, sums});
    }
}

TEST_CASE("a first layer computed again keeps what is not a number visible") {
  if (!has_gpu()) return;
  context<cuda<bf16>> on;
  conv_dims const d{1, 9, 11, 3, 64};
  auto x = normal_of<bfloat16>(d.rows() * d.in, 1);
  auto const w = normal_of<float>(d.out * d.in * 9, 2);
  std::size_t const row = 4, column = 6;
  x[(row * d.width + column) * d.in + 1] = std::numeric_limits<float>::quiet_NaN();
  on_device<bfloat16> in(x), out(d.rows() * d.out);
  on_device<float> weights(w), m(d.out), v(d.out), ones(std::vector<float>(d.out, 1)),
      zeros(std::vector<float>(d.out, 0.0f));
  device_scratch scratch(scratch_size<cuda<bf16>>::conv2d_thin(d), d.batch);
  device_scratch kept(scratch_size<cuda<bf16>>::conv2d_thin_kept(d), d.batch);
  conv2d_thin_moments(on, d, in.data(), weights.data(), m.data(), v.data(), kept, scratch);
  conv2d_thin_forward(on, d, in.data(), weights.data(), ones.data(), zeros.data(), true, out.data());
  for (float const mean : m.values(on)) CHECK(std::isnan(mean));
  auto const y = out.values(on);
  std::size_t wrong = 0;
  for (std::size_t k = 0; k < y.size(); ++k) {
    std::size_t const pixel = k / d.out, i = pixel / d.width, j = pixel % d.width;
    bool const meets = i + 1 >= row && i <= row + 1 && j + 1 >= column && j <= column + 1;
    wrong += std::isnan(y[k]) == meets ? 0 : 1;
  }
  CHECK(wrong == 0);
}
