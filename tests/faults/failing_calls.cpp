// Loaded before the C library (LD_PRELOAD): lets one call of a kind fail, as a disk that is full or broken does.
//
//   L3_FAIL_CALL   write, sync, rename, create or read: of files, not of terminals and pipes; part: what is read or
//                  written is half of what was asked, as it may be, and no failure
//   L3_FAIL_AT     which of them, from 0; -1: none
//   L3_FAIL_COUNT  file for the number of calls, written at the end
#undef _FORTIFY_SOURCE  // its inline functions have the names below
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

std::atomic<long> calls = 0;

char const* asked(char const* variable) {
  char const* const value = std::getenv(variable);
  return value ? value : "";
}

/// Counts a call; whether it is the one that fails.
bool fails(char const* kind) {
  static char const* const wanted = asked("L3_FAIL_CALL");
  static long const at = std::atol(asked("L3_FAIL_AT"));
  if (std::strcmp(kind, wanted) != 0 || calls++ != at) return false;
  errno = std::strcmp(kind, "read") == 0 ? EIO : ENOSPC;
  return true;
}

bool is_file(int descriptor) {
  struct ::stat facts {};
  return descriptor > 2 && ::fstat(descriptor, &facts) == 0 && S_ISREG(facts.st_mode);
}

/// How much of a call on a file is to be done.
std::size_t part_of(int file, std::size_t size) { return size > 1 && is_file(file) && fails("part") ? size / 2 : size; }

template <class F>
F* real(F*, char const* name) {
  return reinterpret_cast<F*>(::dlsym(RTLD_NEXT, name));
}

struct at_the_end {
  ~at_the_end() {
    if (*asked("L3_FAIL_COUNT") == '\0') return;
    if (std::FILE* const out = std::fopen(asked("L3_FAIL_COUNT"), "w")) {
      std::fprintf(out, "%ld\n", calls.load());
      std::fclose(out);
    }
  }
} const end;

}  // namespace

#define L3_REAL(name) static auto* const next = real(static_cast<decltype(&::name)>(nullptr), #name)

extern "C" {

ssize_t write(int file, void const* bytes, std::size_t size) {
  L3_REAL(write);
  return is_file(file) && fails("write") ? -1 : next(file, bytes, part_of(file, size));
}
ssize_t pwrite(int file, void const* bytes, std::size_t size, off_t place) {
  L3_REAL(pwrite);
  return is_file(file) && fails("write") ? -1 : next(file, bytes, part_of(file, size), place);
}
ssize_t pwrite64(int file, void const* bytes, std::size_t size, off64_t place) {
  L3_REAL(pwrite64);
  return is_file(file) && fails("write") ? -1 : next(file, bytes, part_of(file, size), place);
}
ssize_t read(int file, void* bytes, std::size_t size) {
  L3_REAL(read);
  return is_file(file) && fails("read") ? -1 : next(file, bytes, part_of(file, size));
}
ssize_t pread(int file, void* bytes, std::size_t size, off_t place) {
  L3_REAL(pread);
  return is_file(file) && fails("read") ? -1 : next(file, bytes, part_of(file, size), place);
}
ssize_t pread64(int file, void* bytes, std::size_t size, off64_t place) {
  L3_REAL(pread64);
  return is_file(file) && fails("read") ? -1 : next(file, bytes, part_of(file, size), place);
}
int fsync(int file) {
  L3_REAL(fsync);
  return fails("sync") ? -1 : next(file);
}
int fdatasync(int file) {
  L3_REAL(fdatasync);
  return fails("sync") ? -1 : next(file);
}
int rename(char const* from, char const* to) noexcept {
  L3_REAL(rename);
  return fails("rename") ? -1 : next(from, to);
}
int mkdir(char const* folder, mode_t rights) noexcept {
  L3_REAL(mkdir);
  return fails("create") ? -1 : next(folder, rights);
}

#define L3_OPEN(name)                                       \
  int name(char const* file, int how, ...) {                \
    L3_REAL(name);                                          \
    mode_t rights = 0;                                      \
    if ((how & (O_CREAT | O_TMPFILE)) != 0) {               \
      va_list more;                                         \
      va_start(more, how);                                  \
      rights = va_arg(more, mode_t);                        \
      va_end(more);                                         \
    }                                                       \
    if ((how & O_CREAT) != 0 && fails("create")) return -1; \
    return next(file, how, rights);                         \
  }
L3_OPEN(open)
L3_OPEN(open64)

}  // extern "C"
