// The models on the processor with bf16 products.
#include "engine_network.hpp"

namespace l3::program {

bool const has_bf16 = multiplies<arch::best, bf16>;

namespace {
[[noreturn, maybe_unused]] void refuse() {  // a build that has it needs no way out
  throw setting_error(
      {"--precision", "fp32",
       "bf16, which needs a build for a processor with AVX512_BF16 (this one is for " + std::string(cpu::name) + ")"});
}
}  // namespace

std::unique_ptr<engine> make_cpu_engine_bf16(std::string const& model, std::size_t threads) {
  if constexpr (multiplies<arch::best, bf16>)
    return make_engine_on<simd<arch::best, bf16>>(model, threads);
  else
    refuse();
}
model_facts describe_cpu_bf16(std::string const& model) {
  if constexpr (multiplies<arch::best, bf16>)
    return describe_on<simd<arch::best, bf16>>(model);
  else
    refuse();
}

}  // namespace l3::program
