/// @file  examples/l3/keras_file.hpp: the weights in an HDF5 file of Keras.
#pragma once
#include <fcntl.h>
#include <hdf5.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <l3/core/error.hpp>
#include <l3/core/text.hpp>
#include <l3/files/atomic_file.hpp>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

namespace l3::program {

/// What HDF5 has opened, to be closed by `Close`.
template <herr_t (*Close)(hid_t)>
class hdf5_handle {
 public:
  explicit hdf5_handle(hid_t id) : id_(id) {}
  hdf5_handle(hdf5_handle&& other) noexcept : id_(std::exchange(other.id_, -1)) {}
  hdf5_handle& operator=(hdf5_handle&&) = delete;
  ~hdf5_handle() {
    if (id_ >= 0) Close(id_);
  }
  operator hid_t() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }

 private:
  hid_t id_;
};
using hdf5_file = hdf5_handle<H5Fclose>;
using hdf5_group = hdf5_handle<H5Gclose>;
using hdf5_attribute = hdf5_handle<H5Aclose>;
using hdf5_dataset = hdf5_handle<H5Dclose>;
using hdf5_type = hdf5_handle<H5Tclose>;
using hdf5_space = hdf5_handle<H5Sclose>;
using hdf5_plist = hdf5_handle<H5Pclose>;

/// The weights in a file of Keras 1 or 2 (`model.save_weights("x.h5")` or `model.save("x.h5")`), in the order of the
/// layers. The names of layers are numbered anew in every program, so order is what counts.
class keras_file {
 public:
  struct weight {
    std::string layer, name;
    std::vector<hsize_t> shape;
  };

  /// Errors  file_error, format_error.
  explicit keras_file(std::filesystem::path path) : path_(std::move(path)), file_(open(path_)), root_(find_root()) {
    for (std::string const& layer : names(root_, "layer_names")) {
      // Where a network begins with its spectrogram, that has constants.
      if (layer.find("spectrogram") != layer.npos) continue;
      hdf5_group const group(H5Gopen2(root_, layer.c_str(), no_links(H5P_GROUP_ACCESS)));
      if (!group) refuse("a group for layer " + detail::excerpt(layer), "none");
      for (std::string const& name : names(group, "weight_names")) {
        hdf5_dataset const data(H5Dopen2(group, name.c_str(), no_links(H5P_DATASET_ACCESS)));
        if (!data) refuse("the weights " + detail::excerpt(name), "none");
        require_own(data, name);
        weights_.push_back({layer, name, shape_of(hdf5_space(H5Dget_space(data)), name)});
        if (weights_.size() > 1000) refuse("a network of at most 1000 weights", "more");
      }
    }
  }
  std::filesystem::path const& path() const { return path_; }
  std::vector<weight> const& weights() const { return weights_; }

  /// All values of a weight, whose shape was looked at before.
  void read(weight const& w, std::vector<float>& values) const {
    hdf5_group const group(H5Gopen2(root_, w.layer.c_str(), no_links(H5P_GROUP_ACCESS)));
    hdf5_dataset const data(group ? H5Dopen2(group, w.name.c_str(), no_links(H5P_DATASET_ACCESS)) : -1);
    hdf5_type const type(data ? H5Dget_type(data) : -1);
    if (!type || H5Tget_class(type) != H5T_FLOAT)
      refuse("floating-point numbers in " + detail::excerpt(w.name), "others");
    if (H5Dread(data, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()) < 0)
      refuse("readable values in " + detail::excerpt(w.name), "damaged ones");
    for (float const v : values)
      if (!std::isfinite(v)) refuse("finite values in " + detail::excerpt(w.name), std::to_string(v));
  }
  [[noreturn]] void refuse(std::string const& expected, std::string const& found) const {
    throw format_error({path_.string(), expected, found});
  }

 private:
  /// How objects are opened: links to other files are not followed, which may be pipes.
  static hdf5_plist no_links(hid_t kind) {
    hdf5_plist how(H5Pcreate(kind));
    H5Pset_elink_cb(
        how, [](char const*, char const*, char const*, char const*, unsigned*, hid_t, void*) -> herr_t { return -1; },
        nullptr);
    return how;
  }
  /// A file may name others whose bytes are to be taken for its own: nobody who imports weights means that.
  void require_own(hdf5_dataset const& data, std::string const& name) const {
    hdf5_plist const made(H5Dget_create_plist(data));
    if (!made || H5Pget_external_count(made) != 0 || H5Pget_layout(made) == H5D_VIRTUAL ||
        name_of_file(data) != name_of_file(file_))
      refuse("the weights " + detail::excerpt(name) + " in the file itself", "those of another file");
  }
  /// That an object is in.
  static std::string name_of_file(hid_t object) {
    std::string name(static_cast<std::size_t>(std::max<ssize_t>(H5Fget_name(object, nullptr, 0), 0)), ' ');
    H5Fget_name(object, name.data(), name.size() + 1);
    return name;
  }
  static hdf5_file open(std::filesystem::path const& path) {
    H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);  // it shall not print: we say what is wrong
    detail::open_to_read(path);                   // or why not
    hdf5_file file(H5Fopen(path.c_str(), H5F_ACC_RDONLY, H5P_DEFAULT));
    if (!file) throw format_error({path.string(), "an HDF5 file (not packed: gunzip it first)", "another"});
    return file;
  }
  /// The group whose attribute names the layers: the file, or what `model.save` puts into it.
  hdf5_group find_root() const {
    for (char const* where : {"/", "/model_weights"}) {
      hdf5_group group(H5Gopen2(file_, where, no_links(H5P_GROUP_ACCESS)));
      if (group && H5Aexists(group, "layer_names") > 0) return group;
    }
    refuse("weights as Keras 1 and 2 write them, with a list of layer_names", "none");
  }
  std::vector<hsize_t> shape_of(hdf5_space const& space, std::string const& what) const {
    int const rank = space ? H5Sget_simple_extent_ndims(space) : -1;
    if (rank < 0 || rank > 4) refuse("at most 4 dimensions of " + detail::excerpt(what), std::to_string(rank));
    std::vector<hsize_t> shape(static_cast<std::size_t>(rank));
    H5Sget_simple_extent_dims(space, shape.data(), nullptr);
    return shape;
  }
  /// An attribute that is a list of strings, of a fixed or any length.
  std::vector<std::string> names(hid_t of, char const* attribute) const {
    hdf5_attribute const list(H5Aopen(of, attribute, H5P_DEFAULT));
    hdf5_type const type(list ? H5Aget_type(list) : -1);
    hdf5_space const space(list ? H5Aget_space(list) : -1);
    if (!type || !space) refuse(std::string("a list of ") + attribute, "none");
    auto const shape = shape_of(space, attribute);
    std::size_t const count = shape.empty() ? 1 : static_cast<std::size_t>(shape[0]);
    std::vector<std::string> found;
    if (count == 0) return found;
    // Keras gives a layer without weights an empty list of numbers.
    if (H5Tget_class(type) != H5T_STRING || shape.size() > 1 || count > 1000)
      refuse(std::string("at most 1000 strings in ") + attribute, "something else");
    if (H5Tis_variable_str(type) > 0) {
      std::vector<char*> texts(count);
      hdf5_type const memory(H5Tcopy(H5T_C_S1));
      H5Tset_size(memory, H5T_VARIABLE);
      H5Tset_cset(memory, H5Tget_cset(type));
      if (H5Aread(list, memory, texts.data()) < 0) refuse(std::string("readable ") + attribute, "damaged ones");
      for (char const* t : texts) found.emplace_back(t == nullptr ? "" : t);
      H5Dvlen_reclaim(memory, space, H5P_DEFAULT, texts.data());
    } else {
      std::size_t const size = H5Tget_size(type);
      if (size > 1000) refuse(std::string("names of at most 1000 bytes in ") + attribute, std::to_string(size));
      std::vector<char> texts(count * size);
      if (H5Aread(list, type, texts.data()) < 0) refuse(std::string("readable ") + attribute, "damaged ones");
      for (std::size_t k = 0; k != count; ++k)
        found.emplace_back(texts.data() + k * size, strnlen(texts.data() + k * size, size));
    }
    return found;
  }

  std::filesystem::path path_;
  hdf5_file file_;
  hdf5_group root_;
  std::vector<weight> weights_;
};

/// Whether a process of its own gets to the end of `action`, or to what that throws: HDF5 crashes at some damaged
/// files. Ten minutes are as good as a crash. Errors  system_error: no process.
template <class Action>
bool survives(Action const& action) {
  auto const fail = [] { throw std::system_error(errno, std::generic_category(), "a process to read HDF5 in"); };
  auto* const handler = std::signal(SIGCHLD, SIG_DFL);  // who started us may have it ignored, and its end with it
  ::pid_t const child = ::fork();
  if (child < 0) fail();
  if (child == 0) {
    ::rlimit const no_core{0, 0};
    ::setrlimit(RLIMIT_CORE, &no_core);
    ::alarm(600);
    ::dup2(::open("/dev/null", O_WRONLY | O_CLOEXEC), STDERR_FILENO);  // no sanitizer tells of it
    try {
      action();
    } catch (...) {  // is thrown again by who tries this
    }
    ::_exit(0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0)
    if (errno != EINTR) fail();
  std::signal(SIGCHLD, handler);
  if (WIFEXITED(status)) return WEXITSTATUS(status) == 0;
  int const by = WTERMSIG(status);  // others are no fault of the file
  return by == SIGTERM || by == SIGINT || by == SIGHUP || by == SIGKILL;
}

}  // namespace l3::program
