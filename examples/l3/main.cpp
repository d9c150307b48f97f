// l3: learns to see and hear from unlabelled video. One file per subcommand; this one chooses.
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <iostream>
#include <iterator>
#include <l3/core/backend.hpp>
#include <l3/version.hpp>
#include <numeric>
#include <sstream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>
#ifdef L3_WITH_MEDIA
#include <l3/data/ffmpeg.hpp>
#endif

#include "backend_choice.hpp"
#include "crew.hpp"
#include "program.hpp"

namespace {
using namespace l3::program;

/// Letters to change, add or drop to make one word of the other (Levenshtein).
std::size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = std::exchange(row[0], i);
    for (std::size_t j = 1; j <= b.size(); ++j)
      diagonal = std::exchange(row[j], std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])}));
  }
  return row.back();
}

/// Keeps the lines of descriptions and examples as they are: from CLI11 2.5 on it would fill them as paragraphs.
template <class Formatter>
void keep_lines(Formatter& help) {
  if constexpr (requires { help.enable_footer_formatting(false); }) {
    help.enable_description_formatting(false);
    help.enable_footer_formatting(false);
  }
}

/// What a count is as people mean it, and not as C reads it: 010 is ten, -1 and 1e6 are none. Errors: what is wrong.
std::string as_count(std::string& value) {
  if (value.find_first_not_of("0123456789") != value.npos) return "expected a whole number, 0 or above, found " + value;
  value.erase(0, std::min(value.find_first_not_of('0'), value.size() - 1));
  errno = 0;
  std::strtoull(value.c_str(), nullptr, 10);  // some versions of CLI11 take what is too large for the largest
  return errno == ERANGE ? "expected a number below 2^64, found " + value : "";
}
/// Before any other check of any option's values.
void require_values(CLI::App& command) {
  for (CLI::Option* const option : command.get_options())
    if (option->get_expected_max() != 0) {  // no flag
      auto const type = option->get_type_name();
      bool const counts = type.starts_with("UINT") || type.starts_with("INT");
      option->transform(CLI::Validator(
          [counts](std::string& value) {
            if (value.empty()) return std::string("expected a value, found an empty one");
            return counts ? as_count(value) : "";
          },
          ""));
    }
  for (CLI::App* const below : command.get_subcommands([](CLI::App*) { return true; })) require_values(*below);
}

/// What is wrong with a command line, where CLI11's words do not tell people; else nothing.
std::string said_of(CLI::ParseError const& e, CLI::App& app) {
  CLI::App* command = &app;
  while (!command->get_subcommands().empty()) command = command->get_subcommands().front();
  if (dynamic_cast<CLI::ConversionError const*>(&e) != nullptr) {
    constexpr std::string_view begin = "Could not convert: ", middle = " = ";
    std::string const what = e.what();
    auto const value = what.find(middle);
    if (!what.starts_with(begin) || value == what.npos) return {};
    std::string const name = what.substr(begin.size(), value - begin.size());
    CLI::Option const* const option = command->get_option_no_throw(name);
    bool const is_flag = option != nullptr && option->get_expected_max() == 0;
    return name + ": expected " + (is_flag ? "no value" : "a number in its range") + ", found " +
           what.substr(value + middle.size());
  }
  if (dynamic_cast<CLI::ExtrasError const*>(&e) == nullptr && dynamic_cast<CLI::RequiredError const*>(&e) == nullptr)
    return {};
  auto const unknown = command->remaining();  // before a missing option: that is perhaps what it was meant to be
  if (auto const early = app.remaining(); unknown.empty() && command != &app && !early.empty()) {
    auto const option = std::ranges::find_if(early, [](std::string const& each) { return each.starts_with("-"); });
    return "expected options behind the command, as in `l3 " + command_path(*command) + " --threads 1`, found " +
           (option != early.end() ? *option : early.front()) + " before it";
  }
  if (unknown.empty()) return {};
  std::string found, nearest;
  for (std::string const& each : unknown) found += (found.empty() ? "" : " ") + each;
  std::string const given = unknown.front().substr(0, unknown.front().find('='));
  std::size_t least = 3;
  for (CLI::Option const* const option : command->get_options())
    for (std::string const& name : option->get_lnames()) {
      bool const longer = name.size() > 2 && given.starts_with("--" + name);  // --output for --out
      if (std::size_t const d = longer ? 2 : edits(given, "--" + name); d < least) least = d, nearest = "--" + name;
    }
  return "expected arguments that `l3" + (command == &app ? "" : ' ' + command_path(*command)) + "` knows, found " +
         found + (given.starts_with("--") && !nearest.empty() ? "; did you mean " + nearest + "?" : "");
}

int run(int argc, char** argv) {
  CLI::App app{
      "l3 learns to see and hear from unlabelled video: it trains the network of \"Look, Listen and Learn\"\n"
      "to decide whether a frame and a second of sound belong together, and gives embeddings of both.",
      "l3"};
  keep_lines(*app.get_formatter());
#ifdef L3_WITH_MEDIA
  std::string const media = "FFmpeg " + l3::ffmpeg::version();
  std::string const example = "l3 synth data && l3 train --train data/train.csv --valid data/valid.csv";
#else
  std::string const media = "without FFmpeg: packed collections alone";
  std::string const example = "l3 train --train packed/train --valid packed/valid";
#endif
  std::string const cuda = cuda_version().empty() ? "" : ", CUDA " + cuda_version();
  app.set_version_flag("--version", "l3 " L3_VERSION " (" + std::string(l3::cpu::name) + ", " + media + cuda + ")");
  app.require_subcommand(1);
  app.footer("Example:\n  " + example +
             " --out run --model tiny\n"
             "Exit codes: 0 done, 1 the work failed, 2 usage, 3 done but some inputs were refused,\n"
             "129/130/143 interrupted (training writes a checkpoint first).\nl3 COMMAND --help tells more.");

  struct {
    char const *name, *what;
    work (*add)(CLI::App&);
  } const commands[] = {
#ifdef L3_WITH_MEDIA
      {"synth", "Write a made-up set of videos in which sight and sound belong together", add_synth},
      {"index", "Look at every video of a collection once, and write down what it is", add_index},
      {"pack", "Decode a collection once, for training at full speed", add_pack},
#endif
      {"train", "Train a network on a folder or list of videos", add_train},
      {"eval", "Measure how well a network tells pairs that correspond from pairs that do not", add_eval},
#ifdef L3_WITH_MEDIA
      {"embed", "Turn sounds, pictures and videos into embeddings", add_embed},
      {"import", "Turn OpenL3's weights into a checkpoint", add_import},
      {"baseline", "Train supervised networks, to compare with", add_baseline},
      {"probe", "Measure what a network has learned by how well plain classifiers read its features", add_probe},
      {"distance", "Measure how far apart two collections are: the Frechet distance of their embeddings", add_distance},
      {"search", "Find the sounds or pictures of a collection that go with a given one", add_search},
      {"inspect", "Show what a network's units respond to, and where", add_inspect},
#endif
      {"export", "Turn a network into an ONNX file, for other programs to run", add_export},
      {"report", "Put everything that is known of a run on one page", add_report},
      {"info", "Tell what a checkpoint, a media file, a model or this build is", add_info},
      {"bench", "Measure how fast the network and the loader are here", add_bench},
  };
  std::vector<std::pair<CLI::App*, work>> works;
  for (auto const& c : commands) {
    CLI::App* const command = app.add_subcommand(c.name, c.what);
    works.emplace_back(command, c.add(*command));
  }
  if (argc > 1 && argv[1][0] != '-' && std::none_of(std::begin(commands), std::end(commands), [&](auto const& c) {
        return c.name == std::string_view(argv[1]);
      })) {
    std::string known, nearest;
    std::size_t least = 3;  // further away it is no slip of the finger
    for (auto const& c : commands) {
      known += (known.empty() ? "" : ", ") + std::string(c.name);
      if (std::size_t const d = edits(argv[1], c.name); d < least) least = d, nearest = c.name;
    }
    std::cerr << "l3: expected a command (" << known << "), found \"" << printable(argv[1]) << '"'
              << (nearest.empty() ? "" : "; did you mean " + nearest + "?") << std::endl;
    return usage;
  }
  for (auto const& [command, job] : works) require_values(*command);
  try {
    app.parse(argc, argv);
  } catch (CLI::ParseError const& e) {
    if (std::string const said = said_of(e, app); !said.empty()) {
      std::cerr << printable(said) << "\nRun with --help for more information." << std::endl;
      return usage;
    }
    std::ostringstream out, complaints;
    int const code = app.exit(e, out, complaints);
    std::cout << out.str();
    std::cerr << printable(complaints.str());
    return code == 0 ? done : usage;
  }
  for (auto const& [command, job] : works)
    if (command->parsed()) {
      std::string const name = command->get_name();
      try {
        if (name == "baseline") require_alone(name);  // it trains in one folder
        return job();
      } catch (std::exception const& e) {
        std::cerr << "l3 " << name << ": " << printable(said_of_error()) << std::endl;
        return code_of(e);
      }
    }
  return failed;
}
}  // namespace

/// Pictures and decoders come and go by the thousand: their memory stays with the process instead of being given back
/// and mapped anew, page by page (5 % of a loader's time).
void keep_memory() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 32 << 20);
  mallopt(M_TRIM_THRESHOLD, 512 << 20);
#endif
}

/// Before main and every other initialiser: any of them may already need the instructions that are missing.
[[gnu::constructor(101)]] void leave_if_unfit() {
  try {
    l3::require_processor();
  } catch (l3::device_error const& e) {
    std::fprintf(stderr, "l3: %s\n", e.what());
    std::_Exit(failed);
  }
}

/// What is opened later must not get the number of a standard stream that is closed: warnings would go into it.
void fill_standard_streams() {
  for (int const stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(stream, F_GETFD) == -1 && errno == EBADF)  // to read from it, or write to it, is an error as before
        [[maybe_unused]]
      int const filled = ::open("/dev/null", stream == STDIN_FILENO ? O_WRONLY : O_RDONLY);
}

/// Where an error has nobody to catch it: oneTBB starts threads in its own ones, and the system may have no more.
[[noreturn]] void end_for_error() {
  std::string why = "unknown";
  if (auto const error = std::current_exception()) try {
      std::rethrow_exception(error);
    } catch (std::exception const& e) {
      why = e.what();
    } catch (...) {
    }
  std::fprintf(stderr, "l3: an error that ends all threads: %s\n", why.c_str());
  std::_Exit(failed);
}

int main(int argc, char** argv) {
  fill_standard_streams();
  std::set_terminate(end_for_error);
  keep_memory();
  std::signal(SIGXFSZ, SIG_IGN);  // a file that may not grow (ulimit -f) is an error like a full disk
  std::signal(SIGPIPE, SIG_IGN);  // the work goes on where nobody reads what it says any more (`| head`)
  try {
    int const code = run(argc, argv);
    std::cout.flush();
    if (std::cout || (code != done && code != some_refused)) return code;
    pollfd reader{STDOUT_FILENO, 0, 0};
    if (::poll(&reader, 1, 0) == 1 && (reader.revents & POLLERR) != 0) return 128 + SIGPIPE;  // gone: nobody to tell
    std::cerr << "l3: standard output: expected to take the result, found that it could not be written" << std::endl;
    return failed;
  } catch (std::exception const& e) {
    std::cerr << "l3: " << printable(said_of_error()) << std::endl;
    return code_of(e);
  }
}
