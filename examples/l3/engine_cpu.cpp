// The models on the processor in fp32, and the way to all others.
#include "engine_network.hpp"

namespace l3::program {

#if !defined(L3_WITH_CUDA)
bool const has_cuda = false;

namespace {
[[noreturn]] void refuse_cuda() { throw setting_error({"--backend", "cpu (this build has no other)", "cuda"}); }
}  // namespace
std::unique_ptr<engine> make_cuda_engine(std::string const&, std::string const&) { refuse_cuda(); }
model_facts describe_cuda(std::string const&, std::string const&) { refuse_cuda(); }
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

std::unique_ptr<classifier_engine> make_cpu_classifier(std::string const& model, modality what, std::size_t classes,
                                                       std::size_t most_items, std::size_t threads) {
  auto const of = [&]<class Config>(Config) -> std::unique_ptr<classifier_engine> {
    model_facts facts = network_engine<cpu, Config>::describe();
    if (what == modality::frame)
      return std::make_unique<cpu_classifier<cpu, vision_of<Config>>>(std::move(facts), classes, most_items, threads);
    return std::make_unique<cpu_classifier<cpu, audio_of<Config>>>(std::move(facts), classes, most_items, threads);
  };
  if (model == paper::name) return of(paper{});
  if (model == small::name) return of(small{});
  if (model == tiny::name) return of(tiny{});
  throw setting_error({"--model", "paper, small or tiny", model});
}

std::string model_of_checkpoint(std::filesystem::path const& checkpoint) {
  std::string const description = read_checkpoint_facts(checkpoint).model;
  std::string const name = description.substr(0, description.find(' '));
  if (name != paper::name && name != small::name && name != tiny::name)
    throw format_error(
        {checkpoint.string(), "a checkpoint of paper, small or tiny", "one of model " + detail::excerpt(description)});
  return name;
}

}  // namespace l3::program
