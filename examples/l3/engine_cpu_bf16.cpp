// The models with bf16 products.
#include "engine_cpu.hpp"

namespace l3::program {

bool const has_bf16 = multiplies<arch::best, bf16>;

std::unique_ptr<engine> make_cpu_engine_bf16(std::string const& model, std::size_t threads) {
  if constexpr (multiplies<arch::best, bf16>)
    return make_engine<simd<arch::best, bf16>>(model, threads);
  else
    throw setting_error({"--precision", "fp32",
                         "bf16, which needs a build for a processor with AVX512_BF16 (this one is for " +
                             std::string(cpu::name) + ")"});
}

}  // namespace l3::program
