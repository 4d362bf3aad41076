// SPDX-License-Identifier: Apache-2.0
#include "lingerd/takeover.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <fstream>
#include <utility>

#include "lingerd/startup_error.h"
#include "lingerd/stats_reader.h"

namespace lingerd {
namespace {

constexpr int kPatienceMs = 30'000;  // of either for the other
constexpr std::size_t kPassed = 4;   // the parcel's three, and the listener

struct Offer {
  std::uint32_t magic = 0x4c4e4754;  // "LNGT"
  std::uint32_t listener_is_systemds = 0;
};
constexpr char kServing = 'S';

std::string place(const std::string& socket_path) {
  return socket_path + ".takeover";
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::copy_n(path.c_str(), std::min(path.size(), sizeof address.sun_path - 1), address.sun_path);
  return address;
}

[[noreturn]] void refuse(const std::string& why, ExitStatus status = ExitStatus::kFailure) {
  throw StartupError(status, "takeover: " + why);
}

[[noreturn]] void fail(const std::string& step) {
  const ExitStatus status =
      errno == EACCES || errno == EPERM ? ExitStatus::kNoPrivilege : ExitStatus::kFailure;
  refuse(step + ": " + std::strerror(errno), status);
}

bool readable_in_time(int fd) {
  pollfd wait{fd, POLLIN, 0};
  int ready = 0;
  do {
    ready = poll(&wait, 1, kPatienceMs);
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

// Who holds the other end: root or this process's user, or nobody to deal with.
bool is_trusted(int fd, uid_t also = static_cast<uid_t>(-1)) {
  ucred peer{};
  socklen_t size = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) return false;
  return peer.uid == 0 || peer.uid == geteuid() || peer.uid == also;
}

// The process that writes the stats page; 0: none. A name that isn't lingerd's is a page that says
// anything, and SIGUSR2 ends most programs.
pid_t running_lingerd(const std::string& socket_path) {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  const auto now_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                      static_cast<std::uint64_t>(now.tv_nsec);
  const DaemonStatus status = read_stats((socket_path + ".stats").c_str(), now_ns);
  if (status.liveness == Liveness::kDown) return 0;
  const auto pid = static_cast<pid_t>(status.snapshot.pid);
  std::string name;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/comm"), name);
  if (pid <= 0 || !name.starts_with("lingerd")) {
    refuse(socket_path + ".stats names process " + std::to_string(pid) + ", which is no lingerd");
  }
  return pid;
}

uid_t user_of(pid_t pid) {
  struct stat process {};
  const std::string path = "/proc/" + std::to_string(pid);
  return stat(path.c_str(), &process) == 0 ? process.st_uid : static_cast<uid_t>(-1);
}

// The socket at which a successor waits; its file goes with it.
class Meeting {
 public:
  explicit Meeting(std::string path)
      : path_(std::move(path)), fd_(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)) {
    if (!fd_) fail("socket");
    if (path_.size() >= sizeof(sockaddr_un::sun_path)) refuse(path_ + " is too long for a socket");
    unlink(path_.c_str());
    const sockaddr_un address = address_of(path_);
    // For the predecessor's user; who else connects is known by SO_PEERCRED, and turned away.
    const mode_t mask = umask(0111);
    const int bound = bind(fd_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
    const int error = errno;
    umask(mask);
    errno = error;
    if (bound != 0 || listen(fd_.get(), 8) != 0) fail(path_);
  }
  ~Meeting() { unlink(path_.c_str()); }
  Meeting(const Meeting&) = delete;
  Meeting& operator=(const Meeting&) = delete;

  // Nothing if nobody came.
  [[nodiscard]] UniqueFd wait_for(uid_t user) const {
    while (readable_in_time(fd_.get())) {
      UniqueFd line(accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC));
      if (line && is_trusted(line.get(), user)) return line;
    }
    return {};
  }

 private:
  std::string path_;
  UniqueFd fd_;
};

// Room for the four descriptors of an offer.
struct alignas(cmsghdr) Control {
  std::array<std::byte, CMSG_SPACE(kPassed * sizeof(int))> bytes{};
};

msghdr message_of(iovec& vector, Control& control) {
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.bytes.data();
  message.msg_controllen = control.bytes.size();
  return message;
}

bool receive_offer(int line, Inheritance& out) {
  Offer offer{};
  offer.magic = 0;
  Control control;
  iovec vector{&offer, sizeof offer};
  msghdr message = message_of(vector, control);
  if (!readable_in_time(line)) return false;
  const ssize_t size = recvmsg(line, &message, MSG_CMSG_CLOEXEC);
  const cmsghdr* header = size > 0 ? CMSG_FIRSTHDR(&message) : nullptr;
  if (header == nullptr || header->cmsg_type != SCM_RIGHTS) return false;
  std::array<int, kPassed> descriptors{};
  descriptors.fill(-1);
  std::memcpy(descriptors.data(), CMSG_DATA(header),
              std::min(header->cmsg_len - CMSG_LEN(0), sizeof descriptors));
  out.parcel_state.reset(descriptors[0]);
  out.parcel_in.reset(descriptors[1]);
  out.parcel_out.reset(descriptors[2]);
  out.listener.reset(descriptors[3]);
  out.listener_is_ours = offer.listener_is_systemds == 0;
  return size == sizeof offer && offer.magic == Offer{}.magic && out.has_parcel() && out.listener;
}

}  // namespace

std::optional<Predecessor> Predecessor::ask(const std::string& socket_path, Inheritance& out) {
  const pid_t pid = running_lingerd(socket_path);
  if (pid == 0) return std::nullopt;
  const std::string who = "the lingerd at " + socket_path + ", process " + std::to_string(pid);
  const Meeting meeting(place(socket_path));
  if (kill(pid, SIGUSR2) != 0) fail(who);
  UniqueFd line = meeting.wait_for(user_of(pid));
  if (!line || !receive_offer(line.get(), out)) {
    refuse(who + ", doesn't hand over; its log may say why. Under systemd: systemctl restart");
  }
  return Predecessor(std::move(line));
}

void Predecessor::dismiss() {
  if (send(line_.get(), &kServing, sizeof kServing, MSG_NOSIGNAL) != sizeof kServing) {
    refuse("the predecessor didn't wait, and goes on itself");
  }
  line_.reset();
}

UniqueFd successor_at(const std::string& socket_path) {
  const sockaddr_un address = address_of(place(socket_path));
  UniqueFd line(socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!line ||
      connect(line.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      !is_trusted(line.get())) {
    return {};
  }
  return line;
}

bool give(const UniqueFd& successor, const Parcel& parcel, int listener, bool from_systemd,
          std::string& problem) {
  const std::array<int, kPassed> descriptors{parcel.state.get(), parcel.in.get(), parcel.out.get(),
                                             listener};
  Offer offer;
  offer.listener_is_systemds = from_systemd ? 1 : 0;
  Control control;
  iovec vector{&offer, sizeof offer};
  const msghdr message = message_of(vector, control);
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof descriptors);
  std::memcpy(CMSG_DATA(header), descriptors.data(), sizeof descriptors);
  if (sendmsg(successor.get(), &message, MSG_NOSIGNAL) < 0) {
    problem = std::string("the successor: ") + std::strerror(errno);
    return false;
  }
  (void)readable_in_time(successor.get());
  // Its word after this would find nobody, and it would know; one that came before counts.
  shutdown(successor.get(), SHUT_RD);
  char word = 0;
  if (recv(successor.get(), &word, sizeof word, MSG_DONTWAIT) == 1 && word == kServing) return true;
  problem = "the successor never said that it serves";
  return false;
}

}  // namespace lingerd
