// Turns a sound, or the sound of a video, into embeddings: one row of numbers for each second that begins every HOP
// seconds. Prints a CSV: the time at which the second begins, then the numbers.
//   embed_audio CHECKPOINT.safetensors FILE [HOP] > embeddings.csv
// `l3 embed` does the same for many files, for pictures and videos too, and writes .npz.
#include <charconv>
#include <cmath>
#include <cstring>
#include <iostream>
#include <l3/l3net.hpp>
#include <l3/media.hpp>
#include <vector>

template <class Model>
void embed(std::filesystem::path const& checkpoint, std::filesystem::path const& file, double hop) {
  using network = l3::l3_network<l3::cpu, Model>;
  network net;
  l3::load_checkpoint<network>(checkpoint, net, nullptr);  // no optimizer: the weights alone
  l3::context<l3::cpu> threads;
  l3::inference<network> ask(threads, net, 1);
  l3::spectrogram<typename Model::front_end> const to_picture;
  l3::tensor<float, typename network::sound> picture(1);
  l3::tensor<float, typename network::embedding> row(1);

  l3::clip_reader const reader(file, {.seconds = 0});  // 0: the whole file, not its first ten seconds
  l3::sound_source source = reader.sound_from_start();
  auto const skip = static_cast<std::size_t>(std::lround(hop * l3::sound_rate));  // samples
  std::vector<float> sound, block(l3::sound_rate);
  std::size_t begin = 0;  // of `sound`, in samples from the start of the file
  for (std::size_t start = 0;; start += skip) {
    bool ended = false;
    while (!ended && begin + sound.size() < start + l3::sound_rate) {  // read on until the second is whole
      std::size_t const got = source.read(block);
      sound.insert(sound.end(), block.begin(), block.begin() + static_cast<std::ptrdiff_t>(got));
      ended = got == 0;
      std::size_t const past = std::min(start - std::min(start, begin), sound.size());  // nobody needs it any more
      sound.erase(sound.begin(), sound.begin() + static_cast<std::ptrdiff_t>(past));
      begin += past;
    }
    if (ended && start > 0) break;
    if (sound.empty()) throw l3::media_error({file.string(), "at least one sample of sound", "none"});
    std::size_t const at = start - begin;
    sound.resize(std::max(sound.size(), at + l3::sound_rate));  // a file shorter than a second ends in silence
    to_picture(std::span(sound).subspan(at, l3::sound_rate), picture.view()[0]);
    ask.embed_sounds(picture, row);
    std::cout << static_cast<double>(start) / l3::sound_rate;
    for (float const value : row.values()) std::cout << ',' << value;
    std::cout << '\n';
    if (ended) break;
  }
  if (!std::cout.flush()) throw l3::file_error("standard output: expected room for the rows, found none");
}

// A checkpoint says which model it is of; the network for it must have been compiled.
template <class... Models>
void embed_with_model_of(std::filesystem::path const& checkpoint, std::filesystem::path const& file, double hop) {
  std::string const found = l3::read_checkpoint_facts(checkpoint).model;
  bool const known = ((found == l3::describe_model<Models>() && (embed<Models>(checkpoint, file, hop), true)) || ...);
  if (!known)
    throw l3::format_error({checkpoint.string(), "a checkpoint of paper, small or tiny", "one of model " + found});
}

int main(int argc, char** argv) try {
  double hop = 0.5;
  if (argc == 4) {
    char const* const end = argv[3] + std::strlen(argv[3]);
    auto const [stop, problem] = std::from_chars(argv[3], end, hop);
    if (problem != std::errc{} || stop != end || !(hop >= 0.001 && hop <= 3600)) argc = 0;
  }
  if (argc != 3 && argc != 4) {
    std::cerr << "Usage: embed_audio CHECKPOINT.safetensors FILE [HOP in seconds, 0.001 to 3600]\n";
    return 2;
  }
  l3::require_processor();
  std::cout.precision(9);  // enough to read back the same float
  embed_with_model_of<l3::paper, l3::small, l3::tiny>(argv[1], argv[2], hop);
} catch (std::exception const& e) {
  std::cerr << "embed_audio: " << e.what() << '\n';
  return 1;
}
