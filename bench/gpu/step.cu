/// @file  bench/gpu/step.cu: how fast the paper's network is on a GPU: whole steps, subnetworks in use, and layer by
/// layer. Needs nothing but the library and CUDA, so that it also builds where there is little else.
///
///     step train|vision|audio|layers BATCH [SECONDS] [--products warp|warpgroup|direct]
///
/// Prints a line of JSON for each thing measured: medians of what CUDA's own clock says of each repetition. Who makes
/// the convolutions' products is what the GPU does best, unless told: warps, warpgroups, or warpgroups that read all
/// taps in one place where there are whole blocks of channels.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <l3/model/network.hpp>
#include <l3/train/trainer.cuh>
#include <string>
#include <vector>

namespace {

using namespace l3;
using B = cuda<bf16>;
using T = value_of<B>;
using network = l3_network<B, paper>;

class stopwatch {
 public:
  stopwatch() {
    for (cudaEvent_t* const e : {&begin_, &end_}) cuda_check(cudaEventCreate(e), "making an event");
  }
  ~stopwatch() { cudaEventDestroy(begin_), cudaEventDestroy(end_); }
  /// Median milliseconds of `run`, after two to warm up: at least five, for `seconds` in all.
  template <class F>
  double milliseconds(cudaStream_t in, double seconds, F&& run) {
    run(), run();
    std::vector<double> times;
    for (double spent = 0; times.size() < 5 || (spent < seconds * 1e3 && times.size() < 1000); spent += times.back()) {
      cuda_check(cudaEventRecord(begin_, in), "timing");
      run();
      cuda_check(cudaEventRecord(end_, in), "timing");
      cuda_check(cudaEventSynchronize(end_), "timing");
      float ms = 0;
      cuda_check(cudaEventElapsedTime(&ms, begin_, end_), "timing");
      times.push_back(static_cast<double>(ms));
    }
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
    return times[times.size() / 2];
  }

 private:
  cudaEvent_t begin_ = nullptr, end_ = nullptr;
};

/// Values as training has them: normal, and none of them zero. A short period is enough, and the drawing is slow.
template <class U>
device_block noise(context<B>& on, std::size_t count, double deviation = 1) {
  device_block block(count * sizeof(U));
  std::vector<U> period(std::min(count, std::size_t{1} << 16));
  for (std::size_t k = 0; k < period.size(); ++k) {
    generator draw(1, stream::user, 0, static_cast<std::uint32_t>(k));
    period[k] = U(static_cast<float>(deviation * draw.normal()));
  }
  upload(on, period.size(), period.data(), reinterpret_cast<U*>(block.data()));
  for (std::size_t done = period.size(); done < count; done *= 2)
    cuda_check(cudaMemcpyAsync(block.data() + done * sizeof(U), block.data(), std::min(done, count - done) * sizeof(U),
                               cudaMemcpyDeviceToDevice, on.stream()),
               "filling");
  on.stream().wait();
  return block;
}
template <class U>
U* as(device_block const& block) {
  return reinterpret_cast<U*>(block.data());
}

void train(context<B>& on, std::size_t batch, double seconds) {
  network net;
  net.initialise(1);
  trainer<network> t(on, net, {.which = pairing::all, .batch = batch, .learning_rate = 1e-5});
  // As the loader hands it over: bytes of pictures and samples of sound.
  raw_batch<network::frame, network::config::front_end::samples> items(batch);
  items.count = batch;
  generator draw(1, stream::user, 1, 0);
  for (auto& v : items.crops.values()) v = static_cast<std::uint8_t>(draw.below(256));
  for (float& v : items.seconds.values()) v = static_cast<float>(draw.uniform(-1, 1));
  std::fill(items.volumes.begin(), items.volumes.end(), 1.0f);
  auto const step = [&] {
    t.begin(items.view(), {});
    if (t.in_flight() == t.slots) t.finish();
  };
  // By the wall, for transfers and what the processor does between steps count.
  using clock = std::chrono::steady_clock;
  for (int k = 0; k < 3; ++k) step();
  std::vector<double> times;
  for (double spent = 0; times.size() < 5 || (spent < seconds && times.size() < 1000); spent += times.back()) {
    auto const start = clock::now();
    step();
    times.push_back(std::chrono::duration<double>(clock::now() - start).count());
  }
  while (t.in_flight() > 0) t.finish();
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  double const median = times[times.size() / 2];
  std::printf(
      "{\"what\": \"train\", \"products\": \"%s\", \"batch\": %zu, \"ms\": %.4f, \"per_s\": %.1f, \"tflops\": %.1f}\n",
      on.products(), batch, median * 1e3, static_cast<double>(batch) / median,
      3 * network::flops * static_cast<double>(batch) / median * 1e-12);
}

template <bool Frames>
void use(context<B>& on, std::size_t batch, double seconds) {
  using chain = std::conditional_t<Frames, network::vision, network::audio>;
  network net;
  net.initialise(1);
  inference<network> user(on, net, batch);
  auto const x = noise<T>(on, batch * chain::input::size), y = noise<T>(on, batch * chain::output::size);
  stopwatch watch;
  double const ms = watch.milliseconds(on.stream(), seconds, [&] {
    if constexpr (Frames)
      user.embed_frames({as<T>(x), batch}, {as<T>(y), batch});
    else
      user.embed_sounds({as<T>(x), batch}, {as<T>(y), batch});
  });
  std::printf(
      "{\"what\": \"%s\", \"products\": \"%s\", \"batch\": %zu, \"ms\": %.4f, \"per_s\": %.1f, \"tflops\": %.1f}\n",
      Frames ? "vision" : "audio", on.products(), batch, ms, static_cast<double>(batch) / ms * 1e3,
      chain::flops * static_cast<double>(batch) / ms * 1e-9);
}

/// The passes of one layer, by themselves: those of a training step, and what it does in use.
template <class Node>
void layer(context<B>& on, std::string const& subnet, std::size_t batch, double seconds) {
  using node = typename Node::layer;
  conv_dims const conv = node::region(batch, {node::input::height, node::input::width});
  pool_dims const pool = node::dims(batch);
  std::size_t const xs = conv.rows() * conv.in, zs = conv.rows() * conv.out, ys = batch * node::output::size;
  auto const x = noise<T>(on, xs), z = noise<T>(on, zs), y = noise<T>(on, ys), dy = noise<T>(on, ys),
             dz = noise<T>(on, zs), dx = noise<T>(on, xs);
  auto const w = noise<float>(on, conv.out * conv.in * 9, 0.1), dw = noise<float>(on, conv.out * conv.in * 9);
  auto const channel = noise<float>(on, 8 * conv.out);
  float* const c = as<float>(channel);
  std::size_t const n = conv.out;
  device_block const scratch((scratch_size<B>::conv2d_forward(conv) + scratch_size<B>::conv2d_backward(conv) +
                              scratch_size<B>::channels(conv.out, conv.height * conv.width))
                                 .bytes(batch, 1));
  stopwatch watch;
  auto const report = [&](char const* pass, double flops, std::size_t values, auto&& run, bool trains = true) {
    double const ms = watch.milliseconds(on.stream(), seconds, run);
    std::printf(
        "{\"layer\": \"%s.%s\", \"pass\": \"%s\", \"trains\": %s, \"products\": \"%s\", \"batch\": %zu, \"ms\": %.4f, "
        "\"tflops\": %.1f, \"gbytes\": %.0f}\n",
        subnet.c_str(), std::string(Node::name.view()).c_str(), pass, trains ? "true" : "false", on.products(), batch,
        ms, flops / ms * 1e-9, static_cast<double>(values * sizeof(T)) / ms * 1e-6);
  };
  device_block const prepared(scratch_size<B>::conv2d_prepared(conv).bytes(0, 0));
  conv2d_prepare(on, conv, as<float>(w), nullptr, prepared.data());
  bool const pooled = detail::gpu::pools_2x2(pool);
  report(
      "in use", conv.flops(), xs + (pooled ? ys : zs),
      [&] {
        conv2d_infer(on, conv, as<T>(x), prepared.data(), {c, true, pooled}, pooled ? as<T>(y) : as<T>(z),
                     scratch.data());
      },
      false);
  // Where another way was measured to be faster once.
  if constexpr (detail::gpu::conv_can_be_direct<bf16>(node::input::channels, node::channels))
    if (!detail::gpu::conv_is_direct<bf16>(conv.in, conv.out, pooled) && on.direct(detail::gpu::reads_rows_anywhere))
      report(
          "in use, all taps in one place", conv.flops(), xs + zs,
          [&] {
            detail::gpu::run_direct(on, conv,
                                    {.x = as<T>(x), .w = as<T>(prepared), .y = as<T>(z), .shift = c, .relu = true});
          },
          false);
  norm_state<float> const state{c, c + n, c + 2 * n, c + 3 * n};
  if constexpr (node::template thin<B>) {
    device_block const sums(scratch_size<B>::conv2d_thin(conv).bytes(batch, 1)),
        kept(scratch_size<B>::conv2d_thin_kept(conv).bytes(batch, 1));
    report("moments", 0, xs,
           [&] { conv2d_thin_moments(on, conv, as<T>(x), as<float>(w), c, c + n, kept.data(), sums.data()); });
    report("forward", conv.flops(), xs + ys,
           [&] { conv2d_thin_forward(on, conv, as<T>(x), as<float>(w), c, c + n, true, as<T>(y)); });
    report("backward", 2 * conv.flops(), xs + ys, [&] {
      conv2d_thin_backward(on, conv, as<T>(x), as<float>(w), state, true, as<T>(dy), as<float>(dw), c + 4 * n,
                           c + 5 * n, kept.data(), sums.data());
    });
    return;
  }
  report("forward", conv.flops(), xs + zs, [&] {
    conv2d_forward_moments(on, conv, as<T>(x), as<float>(w), nullptr, as<T>(z), c, c + n, scratch.data());
  });
  report("normalise", 0, zs + ys, [&] { affine_pool_forward(on, pool, as<T>(z), c, c + n, true, as<T>(y)); });
  report("normalise backward", 0, 2 * (zs + ys) + zs, [&] {
    batch_norm_relu_pool_backward(on, pool, as<T>(z), state, true, as<T>(dy), as<T>(dz), c + 4 * n, c + 5 * n,
                                  scratch.data());
  });
  report("weight gradient", conv.flops(), xs + zs,
         [&] { conv2d_backward_weights(on, conv, as<T>(x), as<T>(dz), as<float>(dw), scratch.data()); });
  if (conv.in > 3)
    report("data gradient", conv.flops(), xs + zs,
           [&] { conv2d_backward_data(on, conv, as<T>(dz), as<float>(w), as<T>(dx), scratch.data()); });
}
template <class Chain>
void layers(context<B>& on, std::string const& subnet, std::size_t batch, double seconds) {
  [&]<std::size_t... I>(std::index_sequence<I...>) {
    (layer<typename Chain::template node<I>>(on, subnet, batch, seconds), ...);
  }
  (std::make_index_sequence<Chain::length>{});
}

/// (nvcc 13 can spell a subnetwork's type in a template alone.)
template <class Network>
void all_layers(context<B>& on, std::size_t batch, double seconds) {
  layers<typename Network::vision>(on, "vision", batch, seconds);
  layers<typename Network::audio>(on, "audio", batch, seconds);
}

}  // namespace

int main(int argc, char** argv) {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // what was measured before something fails is not lost
  std::vector<std::string> words(argv + 1, argv + argc);
  std::string wanted;
  if (auto const at = std::find(words.begin(), words.end(), "--products"); at != words.end()) {
    wanted = at + 1 == words.end() ? "nothing" : at[1];
    words.erase(at, at + 1 == words.end() ? at + 1 : at + 2);
  }
  std::string const what = !words.empty() ? words[0] : "";
  long const batch = words.size() > 1 ? std::atol(words[1].c_str()) : 0;
  double const seconds = words.size() > 2 ? std::atof(words[2].c_str()) : 1;
  if ((what != "train" && what != "vision" && what != "audio" && what != "layers") || batch < 2 ||
      (!wanted.empty() && wanted != "warp" && wanted != "warpgroup" && wanted != "direct")) {
    std::fprintf(stderr, "expected: %s train|vision|audio|layers BATCH [SECONDS] [--products warp|warpgroup|direct]\n",
                 argv[0]);
    return 2;
  }
  auto const items = static_cast<std::size_t>(batch);
  try {
    context<B> on;
    if (!wanted.empty()) on.products(wanted);
    if (!wanted.empty() && wanted != on.products()) {
      std::fprintf(stderr, "--products %s: expected a Hopper GPU and code for sm_90a, found %s\n", wanted.c_str(),
                   on.gpu().name.c_str());
      return 1;
    }
    if (what == "train") train(on, items, seconds);
    if (what == "vision") use<true>(on, items, seconds);
    if (what == "audio") use<false>(on, items, seconds);
    if (what == "layers") all_layers<network>(on, items, seconds / 100);
    return 0;
  } catch (std::exception const& e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
