// SPDX-License-Identifier: Apache-2.0
// A piped log program, so that it runs in httpd's own domain: hands lingerd Unix sockets of each
// type, which it has no use for and must close; says how many it sent into the file that it is
// called with.
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstring>

namespace {

constexpr char kPath[] = "/run/lingerd/lingerd.sock";
constexpr std::size_t kRecord = 64, kGreeting = 16;

bool send_two(int lingerd, const int* sockets) {
  std::array<char, kRecord> record{};
  alignas(cmsghdr) std::array<char, CMSG_SPACE(2 * sizeof(int))> control{};
  iovec vector{record.data(), record.size()};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  cmsghdr* header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(2 * sizeof(int));
  std::memcpy(CMSG_DATA(header), sockets, 2 * sizeof(int));
  return sendmsg(lingerd, &message, MSG_NOSIGNAL) > 0;
}

int send_all() {
  int sent = 0;
  // Each on a connection of its own, whose end doesn't take back what is on its way.
  for (const int type : {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET}) {
    const int lingerd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, kPath, sizeof kPath);
    std::array<char, kGreeting> greeting{};
    std::array<int, 2> pair{};
    if (connect(lingerd, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 &&
        recv(lingerd, greeting.data(), greeting.size(), 0) > 0 &&
        socketpair(AF_UNIX, type, 0, pair.data()) == 0 && send_two(lingerd, pair.data())) {
      ++sent;
    }
    for (const int fd : {lingerd, pair[0], pair[1]}) close(fd);
  }
  return sent;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 1;
  const int sent = send_all();
  std::FILE* report = std::fopen(argv[1], "w");
  if (report == nullptr) return 1;
  std::fprintf(report, "%d\n", sent);
  std::fclose(report);
  std::array<char, 4096> lines{};  // as long as httpd has something to log
  while (read(STDIN_FILENO, lines.data(), lines.size()) > 0) {
  }
}
