// SPDX-License-Identifier: Apache-2.0
#include "lingerd/succession/parcel.h"

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "base/fd_passing.h"
#include "base/unix_limits.h"

namespace lingerd {
namespace {

// What a message holds, as its first byte, which for all but descriptors is the only one.
enum class Kind : char { kLabel = 'L', kState = 'S', kPair = 'P', kDescriptors = 'D' };

struct Head {
  Kind kind{};
  char unused[3]{};
  Role role = Role::kUnknown;  // kDescriptors: of all of them,
  std::uint32_t first = 0;     // and the first one's index
};
static_assert(sizeof(Head) == 12);

struct Label {
  std::uint64_t magic = 0x4c45'4241'4c44'474cULL;  // "LGDLABEL" in memory
  std::uint64_t descriptors = 0;
  std::uint32_t attempts = 0;
  std::uint32_t configuration = 0;  // bytes of it, behind this
};

[[noreturn]] void fail(const char* what) {
  throw std::system_error(errno, std::system_category(), what);
}

// False with EAGAIN: the pair is full.
bool put(int socket, const Head& head, std::span<const int> descriptors) {
  const std::size_t size = head.kind == Kind::kDescriptors ? sizeof head : sizeof head.kind;
  if (send_message(socket, std::as_bytes(std::span(&head, 1)).first(size), descriptors))
    return true;
  if (errno == EAGAIN || errno == EWOULDBLOCK) return false;
  fail("packing descriptors");
}

void put_only(int socket, Kind kind, std::span<const int> descriptors) {
  if (!put(socket, {.kind = kind}, descriptors)) fail("packing descriptors");
}

struct Message {
  Head head;
  std::vector<UniqueFd> descriptors;
};

// The next message, which stays where it is: the socket remembers how far it has been read
// (SO_PEEK_OFF). False: nothing more.
bool look(int socket, Message& out) {
  DescriptorRoom<kMostInMessage> room;
  out.head = {};  // an older lingerd sends its first byte only
  iovec vector{&out.head, sizeof out.head};
  msghdr message = message_into(vector, room.bytes);
  if (recvmsg(socket, &message, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0) return false;
  std::array<int, kMostInMessage> descriptors{};
  const std::size_t count = descriptors_in(message, descriptors);
  out.descriptors.clear();
  for (std::size_t i = 0; i < count; ++i) out.descriptors.emplace_back(descriptors[i]);
  return true;
}

// From the first message on, even if it has been looked at before.
void look_from_the_start(int socket) {
  const int first = 0;
  setsockopt(socket, SOL_SOCKET, SO_PEEK_OFF, &first, sizeof first);
}

Parcel new_pair() {
  std::array<int, 2> pair{};
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair.data()) != 0) fail("socketpair");
  return {UniqueFd(pair[0]), UniqueFd(pair[1])};
}

UniqueFd memfd_with(const char* name, std::span<const std::byte> bytes) {
  UniqueFd fd(memfd_create(name, MFD_CLOEXEC));
  if (!fd) fail("memfd_create");
  std::size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t n = pwrite(fd.get(), bytes.data() + written, bytes.size() - written,
                             static_cast<off_t>(written));
    if (n <= 0) fail("writing the state");
    written += static_cast<std::size_t>(n);
  }
  return fd;
}

std::vector<std::byte> read_all(int fd) {
  struct stat file {};
  if (fstat(fd, &file) != 0 || file.st_size < 0) return {};
  std::vector<std::byte> bytes(static_cast<std::size_t>(file.st_size));
  std::size_t got = 0;
  while (got < bytes.size()) {
    const ssize_t n = pread(fd, bytes.data() + got, bytes.size() - got, static_cast<off_t>(got));
    if (n <= 0) break;
    got += static_cast<std::size_t>(n);
  }
  bytes.resize(got);
  return bytes;
}

UniqueFd label_with(std::string_view configuration, std::size_t descriptors) {
  Label label;
  label.descriptors = descriptors;
  label.configuration = static_cast<std::uint32_t>(configuration.size());
  std::vector<std::byte> bytes(sizeof label + configuration.size());
  std::memcpy(bytes.data(), &label, sizeof label);
  if (!configuration.empty()) {
    std::memcpy(bytes.data() + sizeof label, configuration.data(), configuration.size());
  }
  return memfd_with("lingerd-label", bytes);
}

// And counts this attempt in it.
void read_label(int fd, Unpacked& out) {
  const std::vector<std::byte> bytes = read_all(fd);
  Label label;
  if (bytes.size() < sizeof label) return;
  std::memcpy(&label, bytes.data(), sizeof label);
  if (label.magic != Label{}.magic || label.configuration > bytes.size() - sizeof label) return;
  out.configuration.resize(label.configuration);
  std::memcpy(out.configuration.data(), bytes.data() + sizeof label, label.configuration);
  out.expected = label.descriptors;
  out.attempts = ++label.attempts;
  [[maybe_unused]] const auto ignored = pwrite(fd, &label, sizeof label, 0);
}

void unpack_pair(int socket, const std::function<void(Unpacked::Item)>& sink) {
  look_from_the_start(socket);
  for (Message message; look(socket, message);) {
    if (message.head.kind != Kind::kDescriptors) continue;
    std::uint32_t index = message.head.first;
    for (UniqueFd& fd : message.descriptors) sink({message.head.role, index++, std::move(fd)});
  }
}

// The pairs that hold the descriptors, made as they are needed, each put into the parcel. A default
// send buffer takes 555 messages: one pair holds some 140,000.
class Pairs {
 public:
  explicit Pairs(int parcel) : parcel_(parcel) {}
  void put_all(const Descriptors& descriptors) {
    const std::span<const int> all(descriptors.in_order);
    for (std::size_t at = 0; at < all.size();) {
      const bool is_new = !pair_.in;
      if (is_new) {
        pair_ = new_pair();
        put_only(parcel_, Kind::kPair, std::array{pair_.in.get(), pair_.out.get()});
      }
      const auto batch = all.subspan(at, std::min(kMostInMessage, all.size() - at));
      const Head head{.kind = Kind::kDescriptors,
                      .role = descriptors.role,
                      .first = static_cast<std::uint32_t>(at)};
      if (put(pair_.in.get(), head, batch)) {
        at += batch.size();
      } else if (is_new) {
        fail("packing descriptors");
      } else {
        pair_ = {};
      }
    }
  }

 private:
  int parcel_;
  Parcel pair_;
};

}  // namespace

Parcel pack(std::span<const std::byte> state, std::string_view configuration,
            std::span<const Descriptors> descriptors) {
  Parcel parcel = new_pair();
  const int in = parcel.in.get();
  std::size_t count = 0;
  for (const Descriptors& each : descriptors) count += each.in_order.size();
  const UniqueFd label = label_with(configuration, count);
  put_only(in, Kind::kLabel, std::array{label.get()});
  const UniqueFd memory = memfd_with("lingerd-state", state);
  put_only(in, Kind::kState, std::array{memory.get()});
  Pairs pairs(in);
  for (const Descriptors& each : descriptors) pairs.put_all(each);
  return parcel;
}

Unpacked unpack(const Parcel& parcel, const std::function<void(Unpacked::Item)>& sink) {
  Unpacked unpacked;
  look_from_the_start(parcel.out.get());
  for (Message message; look(parcel.out.get(), message);) {
    if (message.descriptors.empty()) continue;
    switch (message.head.kind) {
      case Kind::kLabel: read_label(message.descriptors[0].get(), unpacked); break;
      case Kind::kState: unpacked.state = read_all(message.descriptors[0].get()); break;
      case Kind::kPair: unpack_pair(message.descriptors.back().get(), sink); break;
      case Kind::kDescriptors: break;
    }
  }
  return unpacked;
}

Unpacked unpack(const Parcel& parcel) {
  std::vector<Unpacked::Item> items;
  Unpacked unpacked =
      unpack(parcel, [&](Unpacked::Item item) { items.push_back(std::move(item)); });
  unpacked.items = std::move(items);
  return unpacked;
}

}  // namespace lingerd
