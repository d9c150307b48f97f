// The models on the processor in fp32, and the way to all others.
#include "engine_network.hpp"

namespace l3::program {

#if !defined(L3_WITH_CUDA)
std::string cuda_version() { return {}; }

namespace {
[[noreturn]] void refuse_cuda() { throw setting_error({"--backend", "cpu (this build has no other)", "cuda"}); }
}  // namespace
std::unique_ptr<engine> make_cuda_engine(std::string const&, std::string const&) { refuse_cuda(); }
model_facts describe_cuda(std::string const&, std::string const&) { refuse_cuda(); }
std::unique_ptr<classifier_engine> make_cuda_classifier(classifier_choice const&, std::string const&) { refuse_cuda(); }
gpu_description describe_gpu() { refuse_cuda(); }
#endif

namespace {
[[noreturn]] void refuse(backend_choice const& on) {
  if (on.name == "cpu") throw setting_error({"--precision", "fp32 or bf16", on.precision});
  throw setting_error({"--backend", "cpu or cuda", on.name});
}
}  // namespace

std::unique_ptr<engine> make_engine(std::string const& model, backend_choice const& on, std::size_t threads) {
  if (on.name == "cuda") return make_cuda_engine(model, on.products());
  if (on.name == "cpu" && on.products() == bf16::name) return make_cpu_engine_bf16(model, threads);
  if (on.name == "cpu" && on.products() == fp32::name) return make_engine_on<cpu>(model, threads);
  refuse(on);
}
model_facts describe_model(std::string const& model, backend_choice const& on) {
  if (on.name == "cuda") return describe_cuda(model, on.products());
  if (on.name == "cpu" && on.products() == bf16::name) return describe_cpu_bf16(model);
  if (on.name == "cpu" && on.products() == fp32::name) return describe_on<cpu>(model);
  refuse(on);
}

std::unique_ptr<classifier_engine> make_classifier(classifier_choice const& is, backend_choice const& on,
                                                   std::size_t threads) {
  if (on.name == "cuda") return make_cuda_classifier(is, on.products());
  if (on.name == "cpu" && on.products() == bf16::name)
    throw setting_error({"--precision for classifiers on cpu", "fp32", on.products()});
  if (on.name == "cpu" && on.products() == fp32::name) return make_classifier_on<cpu>(is, threads);
  refuse(on);
}

std::string model_of_checkpoint(std::filesystem::path const& checkpoint) {
  return model_of_checkpoint(checkpoint, read_checkpoint_facts(checkpoint));
}
std::string model_of_checkpoint(std::filesystem::path const& checkpoint, checkpoint_facts const& facts) {
  std::string const& description = facts.model;
  std::string const name = description.substr(0, description.find(' '));
  if (!with_model(name, [](auto) {}))
    throw format_error(
        {checkpoint.string(), "a checkpoint of paper, small or tiny", "one of model " + detail::excerpt(description)});
  return name;
}

}  // namespace l3::program
