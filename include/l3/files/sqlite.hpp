/// @file  include/l3/files/sqlite.hpp: a table in one file: owners and error texts for SQLite.
///
/// Programs that include this header link SQLite 3.
#pragma once
#include <sqlite3.h>
#include <unistd.h>

#include <cerrno>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <l3/core/error.hpp>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>

namespace l3::inline L3_ISA {

/// A prepared SQL statement. One thread at a time.
///
/// Errors  file_error naming the database; format_error where it is damaged.
class sql_statement {
 public:
  sql_statement(::sqlite3* database, std::string name, std::string_view sql) : name_(std::move(name)) {
    ::sqlite3_stmt* made = nullptr;
    int const code = ::sqlite3_prepare_v3(database, sql.data(), static_cast<int>(sql.size()), SQLITE_PREPARE_PERSISTENT,
                                          &made, nullptr);
    statement_.reset(made);
    require(database, code, name_);
  }

  /// Gives the parameters, from the first on, and forgets the row before.
  template <class... Values>
  sql_statement& bind(Values const&... values) {
    ::sqlite3_reset(statement_.get());
    ::sqlite3_clear_bindings(statement_.get());
    int place = 0;
    (check(bind_one(++place, values)), ...);
    return *this;
  }
  /// The next row; false after the last. The values bound must live until then.
  bool step() {
    int const code = ::sqlite3_step(statement_.get());
    if (code == SQLITE_ROW) return true;
    ::sqlite3_reset(statement_.get());
    check(code == SQLITE_DONE ? SQLITE_OK : code);
    return false;
  }
  /// For statements without rows: binds, runs.
  template <class... Values>
  void run(Values const&... values) {
    bind(values...);
    while (step()) {
    }
  }

  std::int64_t integer(int column) const { return ::sqlite3_column_int64(statement_.get(), column); }
  double real(int column) const { return ::sqlite3_column_double(statement_.get(), column); }
  bool is_null(int column) const { return ::sqlite3_column_type(statement_.get(), column) == SQLITE_NULL; }
  /// Valid until the next step.
  std::span<std::byte const> blob(int column) const {
    auto const* const bytes = static_cast<std::byte const*>(::sqlite3_column_blob(statement_.get(), column));
    return {bytes, bytes ? static_cast<std::size_t>(::sqlite3_column_bytes(statement_.get(), column)) : 0};
  }
  /// A text or a blob; valid until the next step.
  std::string_view text(int column) const {
    auto const bytes = blob(column);
    return {reinterpret_cast<char const*>(bytes.data()), bytes.size()};
  }

  /// Throws what `code` means, unless it is no error.
  static void require(::sqlite3* database, int code, std::string const& name) {
    if (code == SQLITE_OK) return;
    std::string found = database ? ::sqlite3_errmsg(database) : ::sqlite3_errstr(code);
    if (int const system = database ? ::sqlite3_system_errno(database) : 0;
        system != 0 && ((code & 0xff) == SQLITE_IOERR || (code & 0xff) == SQLITE_CANTOPEN))
      found += " (" + std::generic_category().message(system) + ')';
    if (code == SQLITE_NOMEM) throw std::bad_alloc();
    if ((code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB || (code & 0xff) == SQLITE_ERROR)
      throw format_error(complaint{name, "a whole SQLite database of l3's", found});
    throw file_error(complaint{name, "a database that can be read and written", found});
  }

 private:
  struct release {
    void operator()(::sqlite3_stmt* s) const { ::sqlite3_finalize(s); }
  };

  void check(int code) const { require(::sqlite3_db_handle(statement_.get()), code, name_); }

  int bind_one(int place, std::nullptr_t) { return ::sqlite3_bind_null(statement_.get(), place); }
  template <std::integral T>
  int bind_one(int place, T value) {
    return ::sqlite3_bind_int64(statement_.get(), place, static_cast<std::int64_t>(value));
  }
  int bind_one(int place, double value) { return ::sqlite3_bind_double(statement_.get(), place, value); }
  int bind_one(int place, std::string_view value) {
    return ::sqlite3_bind_text64(statement_.get(), place, value.data() ? value.data() : "", value.size(), SQLITE_STATIC,
                                 SQLITE_UTF8);
  }
  int bind_one(int place, std::string const& value) { return bind_one(place, std::string_view(value)); }
  int bind_one(int place, std::span<std::byte const> value) {
    return ::sqlite3_bind_blob64(statement_.get(), place, value.data() ? static_cast<void const*>(value.data()) : "",
                                 value.size(), SQLITE_STATIC);
  }
  template <class T>
  int bind_one(int place, std::optional<T> const& value) {
    return value ? bind_one(place, *value) : bind_one(place, nullptr);
  }

  std::string name_;
  std::unique_ptr<::sqlite3_stmt, release> statement_;
};

/// An open database. One thread at a time; many may each open the same file.
///
/// What a file says cannot make SQLite do more than read and write it: schemas are not trusted, their triggers and
/// views do not run, cells are checked.
///
/// Errors  file_error naming the file; format_error where it is no database, or damaged.
class sql_database {
 public:
  enum class mode { read, write };

  sql_database(std::filesystem::path const& file, mode how) : name_(file.string()) {
    ::sqlite3* made = nullptr;
    int const flags = how == mode::read ? SQLITE_OPEN_READONLY : SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE;
    int const code = ::sqlite3_open_v2(name_.c_str(), &made, flags | SQLITE_OPEN_NOMUTEX, nullptr);
    database_.reset(made);
    // Of a folder that may not be written to SQLite says that there is no such file.
    if (auto const folder = file.has_parent_path() ? file.parent_path() : std::filesystem::path(".");
        code == SQLITE_CANTOPEN && how == mode::write && ::access(folder.c_str(), W_OK) != 0)
      throw file_error(complaint{name_, "a folder that can be written", std::generic_category().message(errno)});
    sql_statement::require(made, code, name_);
    ::sqlite3_extended_result_codes(made, 1);
    ::sqlite3_busy_timeout(made, 60'000);  // milliseconds: others may read what this one writes
    ::sqlite3_db_config(made, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
    ::sqlite3_db_config(made, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, nullptr);  // they could run for ever
    ::sqlite3_db_config(made, SQLITE_DBCONFIG_ENABLE_VIEW, 0, nullptr);
    ::sqlite3_limit(made, SQLITE_LIMIT_LENGTH, 1 << 28);
    run("PRAGMA trusted_schema = OFF; PRAGMA cell_size_check = ON");
  }

  /// Runs statements that give nothing back.
  void run(std::string const& sql) {
    sql_statement::require(database_.get(), ::sqlite3_exec(database_.get(), sql.c_str(), nullptr, nullptr, nullptr),
                           name_);
  }
  sql_statement prepare(std::string_view sql) { return {database_.get(), name_, sql}; }
  std::string const& name() const { return name_; }

 private:
  struct release {
    void operator()(::sqlite3* database) const { ::sqlite3_close_v2(database); }
  };
  std::string name_;
  std::unique_ptr<::sqlite3, release> database_;
};

/// Whether it is a file that begins as SQLite's databases do. Nothing is read of a pipe.
inline bool is_sql_database(std::filesystem::path const& file) {
  std::error_code unknown;
  if (!std::filesystem::is_regular_file(file, unknown)) return false;
  constexpr std::string_view magic("SQLite format 3\0", 16);
  std::FILE* const in = std::fopen(file.c_str(), "rb");
  if (!in) return false;
  char begin[16] = {};
  bool const read = std::fread(begin, 1, sizeof begin, in) == sizeof begin;
  std::fclose(in);
  return read && std::string_view(begin, sizeof begin) == magic;
}

}  // namespace l3::inline L3_ISA
