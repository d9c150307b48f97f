// The models on a GPU.
#include <cstdlib>

#include "engine_network.hpp"

namespace l3::program {

std::string cuda_version() {
  return std::to_string(CUDART_VERSION / 1000) + '.' + std::to_string(CUDART_VERSION % 1000 / 10);
}

namespace {
/// Calls f with the precision of this name.
template <class F>
auto with_precision(std::string const& name, F&& f) {
  if (name == bf16::name) return f(bf16{});
  if (name == tf32::name) return f(tf32{});
  if (name == fp32::name) return f(fp32{});
  throw setting_error({"--precision with --backend cuda", "bf16, tf32 or fp32", name});
}
/// Of several processes on a machine each takes the next GPU, from the first one again if there are too few.
int own_gpu() {
  int place = 0, count = 0;
  // Slurm's stands last: a script that it runs hands its own on to all that mpirun starts there.
  for (char const* name : {"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"})
    if (char const* const said = std::getenv(name)) {
      place = std::atoi(said);
      break;
    }
  return cudaGetDeviceCount(&count) == cudaSuccess && count > 0 && place > 0 ? place % count : 0;
}
}  // namespace

std::unique_ptr<engine> make_cuda_engine(std::string const& model, std::string const& precision) {
  return with_precision(precision, [&]<class P>(P) { return make_engine_on<cuda<P>>(model, 0, own_gpu()); });
}
model_facts describe_cuda(std::string const& model, std::string const& precision) {
  return with_precision(precision, [&]<class P>(P) { return describe_on<cuda<P>>(model); });
}
std::unique_ptr<classifier_engine> make_cuda_classifier(classifier_choice const& is, std::string const& precision) {
  return with_precision(precision, [&]<class P>(P) { return make_classifier_on<cuda<P>>(is, 0, own_gpu()); });
}
gpu_description describe_gpu() {
  context<cuda<bf16>> on(0, own_gpu());
  on.direct(detail::gpu::reads_rows_anywhere);
  gpu_facts const& gpu = on.gpu();
  return {gpu.name, std::to_string(gpu.major) + "." + std::to_string(gpu.minor), gpu.memory, on.memory_left(),
          on.products()};
}

}  // namespace l3::program
