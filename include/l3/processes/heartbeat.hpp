/// @file  include/l3/processes/heartbeat.hpp: processes that work together notice soon when one of them is gone.
#pragma once
#include <arpa/inet.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <functional>
#include <l3/core/error.hpp>
#include <l3/core/process_group.hpp>
#include <l3/files/atomic_file.hpp>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace l3::inline L3_ISA {

/// How soon.
struct heartbeat_settings {
  std::chrono::milliseconds interval{500};    ///< between two signs of life
  std::chrono::milliseconds patience{10000};  ///< without one before a process counts as gone
  std::chrono::milliseconds grace{10000};     ///< for the program to end in order once one is gone
};

/// Signs of life between the first process of a group and each of the others, over connections of their own: TCP does
/// not tell within minutes that a cable was cut, and what a process waits for inside a collective operation never
/// comes when another has died.
///
/// The first process listens; the others connect to whichever of its addresses they reach. A thread sends and reads.
/// A connection that ends or stays silent is a process that is gone, and so is one that says why it ends: the first
/// process tells all others, `check` throws what happened at each, and `tell`, called by the thread, can say it however
/// long the program is busy. If the program has not ended within the time of grace, `at_last` ends it.
///
/// Network   IPv4, any port that is free at the first process.
/// Security  both sides must name a number that the group has agreed on, so strangers do not get in by accident; it
///           goes over the network in clear. Of what is sent no more is kept than two thousand bytes.
/// Errors    group_error of the constructor: no connection; of `check`: see above.
class heartbeat {
 public:
  /// What has ended the work, and whether the first process is gone and cannot say it.
  using telling = std::function<void(std::string const& reason, bool first_is_lost)>;

  /// Every process of the group calls it at the same time.
  heartbeat(process_group& group, heartbeat_settings settings, telling tell, std::function<void()> at_last)
      : group_(group), settings_(settings), tell_(std::move(tell)), at_last_(std::move(at_last)) {
    if (group.size() == 1) return;
    connect_all();
    thread_ = std::thread([this] { watch(); });
  }
  heartbeat(heartbeat const&) = delete;
  heartbeat& operator=(heartbeat const&) = delete;
  /// Says goodbye: from now on the others do not miss this process.
  ~heartbeat() { leave(); }
  /// The same, when nobody can be asked any more that `at_last` needs.
  void leave() {
    stopping_ = true;
    if (thread_.joinable()) thread_.join();
  }

  /// Throws group_error if a process is gone or has said why it ends.
  void check() const {
    if (!is_over_) return;
    std::lock_guard const lock(mutex_);
    throw group_error(reason_);
  }
  /// Tells all others that this process ends, and why. Their `check` throws it. Returns what has ended the work: this,
  /// or what had done so before.
  std::string end_all(std::string const& why) {
    over(why);
    for (int waited = 0; waited != 1000 && !is_told_; ++waited)
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    std::lock_guard const lock(mutex_);
    return reason_;
  }
  /// The first process has ended, in order or not. (Not to be asked by itself.)
  bool first_has_ended() const { return first_has_ended_; }
  /// Something has ended the work.
  bool is_over() const { return is_over_; }

 private:
  using clock = std::chrono::steady_clock;
  static constexpr std::size_t most_text = 1000;
  static constexpr char beat = 'b', goodbye = 'g', the_end = 'e';

  using descriptor = detail::file_descriptor;

  struct peer {
    descriptor socket{};
    std::string name{};
    clock::time_point heard = clock::now();
    std::string unread{};
    bool is_gone = false;  ///< in order
  };
  struct address {
    std::uint64_t secret;
    std::uint16_t port;
    std::uint8_t count;
    std::uint32_t ipv4[8];
  };
  struct introduction {
    std::uint64_t secret;
    std::uint32_t rank;
  };

  [[noreturn]] static void refuse(char const* what) {
    throw group_error({"connection between processes", what, std::strerror(errno)});
  }

  void connect_all() {
    descriptor listening;
    address mine{};
    std::string problem;
    auto const attempt = [&](auto&& work) {
      if (!problem.empty()) return;
      try {
        work();
      } catch (group_error const& e) {
        problem = e.what();
      }
    };
    if (group_.rank() == 0) attempt([&] { mine = listen_at(listening); });
    std::vector<address> all(group_.size());
    group_.gather_values(mine, std::span(all));
    attempt([&] {
      if (group_.rank() == 0)
        accept_all(listening, mine.secret);
      else
        peers_.push_back({.socket = connect_to(all[0]), .name = group_.name(0)});
    });
    // Nobody is on its own before all are connected, and nobody waits for one who is not.
    char const connected = problem.empty() ? 1 : 0;
    std::vector<char> everyone(group_.size());
    group_.gather_values(connected, std::span(everyone));
    for (std::size_t rank = everyone.size(); rank-- != 0;)  // the first one fails with any other, and knows which
      if (everyone[rank] == 0)
        throw group_error({"connections between processes", group_.name(rank) + " among them",
                           problem.empty() ? "that it has none" : problem});
  }

  address listen_at(descriptor& at) const {
    descriptor listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in any{};
    any.sin_family = AF_INET;
    socklen_t size = sizeof(any);
    if (!listening.is_open() || ::bind(listening.get(), reinterpret_cast<sockaddr*>(&any), size) != 0 ||
        ::listen(listening.get(), static_cast<int>(group_.size())) != 0 ||
        ::getsockname(listening.get(), reinterpret_cast<sockaddr*>(&any), &size) != 0)
      refuse("a port to listen at");
    address mine = own_addresses();
    mine.port = any.sin_port;
    if (::getentropy(&mine.secret, sizeof(mine.secret)) != 0) refuse("a random number");
    at = std::move(listening);
    return mine;
  }

  static address own_addresses() {
    address a{};
    ifaddrs* list = nullptr;
    if (::getifaddrs(&list) != 0) refuse("the machine's addresses");
    for (bool const loopback : {false, true})
      for (ifaddrs const* each = list; each != nullptr; each = each->ifa_next)
        if (each->ifa_addr != nullptr && each->ifa_addr->sa_family == AF_INET && a.count != std::size(a.ipv4) &&
            ((each->ifa_flags & IFF_LOOPBACK) != 0) == loopback)
          a.ipv4[a.count++] = reinterpret_cast<sockaddr_in const*>(each->ifa_addr)->sin_addr.s_addr;
    ::freeifaddrs(list);
    return a;
  }

  /// Tries all of the first process's addresses for a while: some may be other machines' here, which do not know the
  /// answer.
  descriptor connect_to(address const& first) const {
    if (first.count == 0) throw group_error({"the first process", "an address to connect to", "none"});
    auto const end = clock::now() + settings_.patience;
    do {
      for (std::size_t k = 0; k != std::min<std::size_t>(first.count, std::size(first.ipv4)); ++k) {
        descriptor s(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!s.is_open()) refuse("a socket");
        sockaddr_in to{};
        to.sin_family = AF_INET, to.sin_port = first.port, to.sin_addr.s_addr = first.ipv4[k];
        auto const soon = [&](short what) {
          pollfd ready{s.get(), what, 0};
          return ::poll(&ready, 1, 1000) == 1;
        };
        if (::connect(s.get(), reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0 &&
            (errno != EINPROGRESS || !soon(POLLOUT)))
          continue;
        introduction const me{first.secret, static_cast<std::uint32_t>(group_.rank())};
        std::uint64_t answer = 0;
        if (::send(s.get(), &me, sizeof(me), MSG_NOSIGNAL) == sizeof(me) && soon(POLLIN) &&
            ::recv(s.get(), &answer, sizeof(answer), 0) == sizeof(answer) && answer == ~first.secret &&
            ::send(s.get(), &beat, sizeof(beat), MSG_NOSIGNAL) == sizeof(beat))
          return s;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    } while (clock::now() < end);
    errno = ETIMEDOUT;
    refuse("the first process to answer");
  }

  void accept_all(descriptor const& listening, std::uint64_t secret) {
    peers_.resize(group_.size() - 1);
    auto const end = clock::now() + 2 * settings_.patience;
    for (std::size_t missing = peers_.size(); missing != 0;) {
      pollfd ready{listening.get(), POLLIN, 0};
      if (clock::now() > end || (::poll(&ready, 1, 1000) < 0 && errno != EINTR)) {
        std::string names;
        for (std::size_t k = 0; k != peers_.size(); ++k)
          if (!peers_[k].socket.is_open()) names += (names.empty() ? "" : ", ") + group_.name(k + 1);
        throw group_error({"connections between processes", "one to each", "none to " + names});
      }
      descriptor s(ready.revents != 0 ? ::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC) : -1);
      if (!s.is_open()) continue;
      introduction who{};
      timeval const soon{1, 0};
      ::setsockopt(s.get(), SOL_SOCKET, SO_RCVTIMEO, &soon, sizeof(soon));
      std::uint64_t const answer = ~secret;
      bool const known = ::recv(s.get(), &who, sizeof(who), MSG_WAITALL) == sizeof(who) && who.secret == secret &&
                         who.rank >= 1 && who.rank <= peers_.size() && !peers_[who.rank - 1].socket.is_open() &&
                         ::send(s.get(), &answer, sizeof(answer), MSG_NOSIGNAL) == sizeof(answer);
      char first_sign = 0;  // it has not given this connection up
      if (!known || ::recv(s.get(), &first_sign, 1, 0) != 1 || first_sign != beat ||
          ::fcntl(s.get(), F_SETFL, O_NONBLOCK) != 0)
        continue;
      peers_[who.rank - 1].socket = std::move(s), peers_[who.rank - 1].name = group_.name(who.rank);
      peers_[who.rank - 1].heard = clock::now();
      --missing;
    }
  }

  /// The first to call it is heard.
  void over(std::string const& why) {
    std::lock_guard const lock(mutex_);
    if (is_over_) return;
    reason_ = why.substr(0, most_text);
    std::replace(reason_.begin(), reason_.end(), '\n', ' ');  // a line is what is sent
    over_since_ = clock::now();
    is_over_ = true;
  }

  static void say(peer& to, std::string const& what) {
    if (to.socket.is_open()) (void)!::send(to.socket.get(), what.data(), what.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void watch() {
    for (peer& each : peers_) each.heard = clock::now();
    auto next = clock::now();
    bool told = false;
    while (true) {
      bool const leaving = stopping_;
      if (is_over_ && !std::exchange(told, true)) {
        for (peer& each : peers_) say(each, the_end + reason_ + '\n');
        tell_(reason_, first_is_lost_);
        is_told_ = true;
      }
      if (leaving) {
        for (peer& each : peers_) say(each, std::string(1, goodbye));
        return;
      }
      if (clock::now() >= next) {
        for (peer& each : peers_) say(each, std::string(1, beat));
        next = clock::now() + settings_.interval;
      }
      listen_for(std::chrono::milliseconds(50));
      // The first one speaks for all: who ends badly before it may have its launcher kill it.
      auto const grace = group_.rank() == 0 ? settings_.grace : settings_.grace * 3 / 2;
      if (is_over_ && clock::now() > over_since_ + grace && !stopping_) {
        at_last_();
        return;
      }
    }
  }

  void listen_for(std::chrono::milliseconds time) {
    std::vector<pollfd> sockets;
    for (peer const& each : peers_) sockets.push_back({each.is_gone ? -1 : each.socket.get(), POLLIN, 0});
    auto const asked = clock::now();
    ::poll(sockets.data(), sockets.size(), static_cast<int>(time.count()));
    // A job that was suspended as a whole is not silent: nobody could speak.
    if (auto const stood = clock::now() - asked - time; stood > settings_.interval)
      for (peer& p : peers_) p.heard += stood;
    for (std::size_t k = 0; k != peers_.size(); ++k) {
      peer& p = peers_[k];
      if (p.is_gone) continue;
      if (sockets[k].revents != 0) read(p);
      if (!p.is_gone && clock::now() - p.heard > settings_.patience)
        lost(p, "has not answered for " + std::to_string(settings_.patience.count() / 1000) + " s");
    }
  }

  void lost(peer& p, std::string const& why) {
    p.is_gone = true;
    if (group_.rank() != 0) first_has_ended_ = true, first_is_lost_ = !told_by_first_;
    over(p.name + " " + why);
  }

  void read(peer& p) {
    char bytes[512];
    auto const n = ::recv(p.socket.get(), bytes, sizeof(bytes), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return;
    if (n <= 0) return lost(p, "has ended without a word");
    p.heard = clock::now();
    p.unread.append(bytes, static_cast<std::size_t>(n));
    while (!p.unread.empty()) {
      if (p.unread[0] == beat) {
        p.unread.erase(0, p.unread.find_first_not_of(beat));
      } else if (p.unread[0] == goodbye) {
        p.is_gone = first_has_ended_ = true;
        return;
      } else if (auto const end = p.unread.find('\n'); p.unread[0] == the_end && end != p.unread.npos) {
        told_by_first_ = group_.rank() != 0;
        over(p.unread.substr(1, end - 1));
        p.unread.erase(0, end + 1);  // it goes on beating until it has said so to people
      } else if (p.unread[0] != the_end || p.unread.size() > most_text + 2) {
        return lost(p, "sends what nobody understands");
      } else {
        return;  // the rest of the line is on its way
      }
    }
  }

  process_group& group_;
  heartbeat_settings settings_;
  telling tell_;
  std::function<void()> at_last_;
  std::vector<peer> peers_;  ///< all others, at the first process; the first one, at the others
  std::thread thread_;
  std::atomic<bool> stopping_ = false, is_over_ = false, is_told_ = false, first_has_ended_ = false,
                    first_is_lost_ = false;
  bool told_by_first_ = false;  ///< of the thread
  mutable std::mutex mutex_;
  std::string reason_;
  clock::time_point over_since_;
};

}  // namespace l3::inline L3_ISA
