// The models on a GPU.
#include "engine_network.hpp"

namespace l3::program {

bool const has_cuda = true;

namespace {
/// Calls f with the precision of this name.
template <class F>
auto with_precision(std::string const& name, F&& f) {
  if (name == bf16::name) return f(bf16{});
  if (name == tf32::name) return f(tf32{});
  if (name == fp32::name) return f(fp32{});
  throw setting_error({"--precision with --backend cuda", "bf16, tf32 or fp32", name});
}
}  // namespace

std::unique_ptr<engine> make_cuda_engine(std::string const& model, std::string const& precision) {
  return with_precision(precision, [&]<class P>(P) { return make_engine_on<cuda<P>>(model, 0); });
}
model_facts describe_cuda(std::string const& model, std::string const& precision) {
  return with_precision(precision, [&]<class P>(P) { return describe_on<cuda<P>>(model); });
}
gpu_description describe_gpu() {
  gpu_facts const gpu = open_gpu();
  gpu_description d{gpu.name, std::to_string(gpu.major) + "." + std::to_string(gpu.minor), gpu.memory, 0};
  std::size_t all = 0;
  cuda_check(cudaMemGetInfo(&d.left, &all), "asking for what is left of its memory");
  return d;
}

}  // namespace l3::program
