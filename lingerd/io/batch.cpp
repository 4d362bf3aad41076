// SPDX-License-Identifier: Apache-2.0
#include "lingerd/io/batch.h"

#include <algorithm>

#include "base/fd_passing.h"

namespace lingerd {

Batch::Batch() {
  for (std::size_t i = 0; i < kMostInBatch; ++i) {
    vectors_[i] = {records_[i].data(), records_[i].size()};
    messages_[i].msg_hdr.msg_iov = &vectors_[i];
    messages_[i].msg_hdr.msg_iovlen = 1;
    messages_[i].msg_hdr.msg_control = controls_[i].bytes.data();
  }
}

int Batch::receive(int fd, std::size_t most) {
  const std::size_t count = std::min(most, kMostInBatch);
  for (std::size_t i = 0; i < count; ++i) {
    messages_[i].msg_hdr.msg_controllen = sizeof(Control::bytes);
  }
  return recvmmsg(fd, messages_.data(), static_cast<unsigned>(count),
                  MSG_DONTWAIT | MSG_CMSG_CLOEXEC, nullptr);
}

std::span<const std::byte> Batch::bytes(std::size_t index) const {
  return std::span(records_[index]).first(messages_[index].msg_len);
}

bool Batch::was_longer(std::size_t index) const {
  return (messages_[index].msg_hdr.msg_flags & MSG_TRUNC) != 0;
}

bool Batch::lost_descriptors(std::size_t index) const {
  return (messages_[index].msg_hdr.msg_flags & MSG_CTRUNC) != 0;
}

bool Batch::empty(std::size_t index) const {
  return messages_[index].msg_len == 0 && messages_[index].msg_hdr.msg_controllen == 0;
}

std::span<const int> Batch::descriptors(std::size_t index) {
  return std::span(descriptors_).first(descriptors_in(messages_[index].msg_hdr, descriptors_));
}

bool Batch::tell_messages_from_the_end(int fd) {
  const int yes = 1;
  return setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes) == 0;
}

}  // namespace lingerd
