// Turns sound into embeddings while it comes, as from a microphone: samples on standard input, and each tenth of a
// second a row of numbers for the second that has just ended. Prints a CSV: the time at which that second began, then
// the numbers.
//   ffmpeg -v error -i FILE -f f32le -ac 1 -ar 48000 - | embed_live CHECKPOINT.safetensors > embeddings.csv
// Needs no FFmpeg to build, and half of the network: that which hears.
#include <algorithm>
#include <iostream>
#include <l3/data.hpp>
#include <l3/l3net.hpp>
#include <string>
#include <vector>

template <class Model>
void embed(std::filesystem::path const& checkpoint, std::istream& samples) {
  using network = l3::l3_network<l3::cpu, Model>;
  using hearing = typename network::audio;
  network net;
  l3::load_checkpoint<network>(checkpoint, net, nullptr);  // no optimizer: the weights alone
  l3::context<l3::cpu> threads;
  l3::chain_inference<hearing> hear(threads, net.data() + network::audio_offset, 1);
  l3::spectrogram<typename Model::front_end> const to_picture;
  l3::tensor<float, typename hearing::input> picture(1);
  l3::tensor<float, typename hearing::output> row(1);

  constexpr std::size_t rate = Model::front_end::sample_rate, hop = rate / 10;
  std::vector<float> second(rate);
  std::size_t heard = 0;
  for (;; heard += hop) {
    if (heard >= rate) {
      to_picture(second, picture.view()[0]);
      hear(picture.view(), row.view());
      std::cout << static_cast<double>(heard - rate) / rate;
      for (float const value : row.values()) std::cout << ',' << value;
      std::cout << std::endl;  // at once: somebody may be waiting for it
    }
    std::shift_left(second.begin(), second.end(), hop);
    if (!samples.read(reinterpret_cast<char*>(&second[rate - hop]), hop * sizeof(float))) break;
  }
  if (!std::cout) throw l3::file_error("standard output: expected room for the rows, found none");
  if (heard < rate)
    throw l3::media_error({"standard input", "a second of samples, 32-bit floats at " + std::to_string(rate) + " Hz",
                           std::to_string(heard) + " samples"});
}

int main(int argc, char** argv) try {
  if (argc != 2) {
    std::cerr << "Usage: embed_live CHECKPOINT.safetensors < SAMPLES (48 kHz, one channel, 32-bit floats)\n";
    return 2;
  }
  l3::require_processor();
  std::cout.precision(9);  // enough to read back the same float
  std::string const model = l3::read_checkpoint_facts(std::filesystem::path(argv[1])).model;
  // The network for a model must have been compiled; these are paper, small and tiny.
  if (!l3::with_model(model.substr(0, model.find(' ')), [&]<class Model>(Model) { embed<Model>(argv[1], std::cin); }))
    throw l3::format_error({argv[1], "a checkpoint of paper, small or tiny", "one of model " + model});
} catch (std::exception const& e) {
  std::cerr << "embed_live: " << e.what() << '\n';
  return 1;
}
