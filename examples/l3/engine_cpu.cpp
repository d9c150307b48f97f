// The models in fp32, and the way to those in other precisions.
#include "engine_cpu.hpp"

namespace l3::program {

std::unique_ptr<engine> make_cpu_engine(std::string const& model, std::size_t threads, std::string const& precision) {
  if (precision == bf16::name) return make_cpu_engine_bf16(model, threads);
  if (precision == fp32::name) return make_engine<cpu>(model, threads);
  throw setting_error({"--precision", "fp32 or bf16", precision});
}

std::unique_ptr<classifier_engine> make_cpu_classifier(std::string const& model, modality what, std::size_t classes,
                                                       std::size_t most_items, std::size_t threads) {
  auto const of = [&]<class Config>(Config) -> std::unique_ptr<classifier_engine> {
    model_facts facts = cpu_engine<cpu, Config>::describe();
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
