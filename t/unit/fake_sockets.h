// SPDX-License-Identifier: Apache-2.0
// Sockets as a test wants them, by number; and what the lingerer did to each.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <set>
#include <vector>

#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/delivery.h"
#include "lingerd/core/drain.h"
#include "lingerd/core/lingerer.h"

class FakeSockets : public lingerd::SocketOps, public lingerd::DeliveryOps {
 public:
  using State = lingerd::DrainResult::State;

  struct Socket {
    std::deque<lingerd::DrainResult> answers;  // to come; then the last state, no bytes
    State state = State::kOpen;
    std::uint64_t unsent = 0;
    bool refuse_watch = false;
    std::uint32_t generation = 0;  // as told by watch()
    bool watched = false;
    int drains = 0;
    // Of a delivery: bytes that the socket takes now, and what it says when it takes none.
    std::uint64_t takes = 0;
    lingerd::PushResult::State refuses_with = lingerd::PushResult::State::kFull;
    std::uint64_t taken = 0;
    bool writable_watched = false;
    int fins = 0;
  };

  Socket& operator[](lingerd::SocketId id) { return open_[id]; }
  [[nodiscard]] bool is_open(lingerd::SocketId id) const { return open_.contains(id); }
  [[nodiscard]] std::size_t open_count() const { return open_.size(); }
  [[nodiscard]] bool wrong_use() const { return wrong_use_; }
  [[nodiscard]] const std::vector<lingerd::SocketId>& closed() const { return closed_; }

  void sends(lingerd::SocketId id, std::uint64_t bytes) {
    open_[id].answers.push_back({State::kOpen, bytes});
  }
  void closes(lingerd::SocketId id) { open_[id].answers.push_back({State::kEof, 0}); }
  void resets(lingerd::SocketId id) { open_[id].answers.push_back({State::kReset, 0}); }

  lingerd::DrainResult drain(lingerd::SocketId id) override {
    Socket* socket = find(id);
    if (!socket) return {};
    ++socket->drains;
    if (socket->answers.empty()) return {socket->state, 0};
    const lingerd::DrainResult answer = socket->answers.front();
    socket->answers.pop_front();
    socket->state = answer.state;
    return answer;
  }
  std::uint64_t unsent(lingerd::SocketId id) override {
    const Socket* socket = find(id);
    return socket ? socket->unsent : 0;
  }
  bool watch(lingerd::SocketId id, std::uint32_t generation) override {
    Socket* socket = find(id);
    if (!socket || socket->refuse_watch) return false;
    wrong_use_ = wrong_use_ || socket->watched;
    socket->watched = true;
    socket->generation = generation;
    return true;
  }
  bool watch_writable(lingerd::SocketId id, std::uint32_t generation) override {
    if (!watch(id, generation)) return false;
    open_[id].writable_watched = true;
    return true;
  }
  void watch_readable_again(lingerd::SocketId id, std::uint32_t generation) override {
    Socket* socket = find(id);
    if (!socket) return;
    wrong_use_ = wrong_use_ || !socket->writable_watched || socket->generation != generation;
    socket->writable_watched = false;
  }
  void stop_watching(lingerd::SocketId id, std::uint32_t generation) override {
    Socket* socket = find(id);
    if (!socket) return;
    wrong_use_ = wrong_use_ || !socket->writable_watched || socket->generation != generation;
    socket->writable_watched = false;
  }
  void watch_writable_again(lingerd::SocketId id, std::uint32_t generation) override {
    Socket* socket = find(id);
    if (!socket) return;
    wrong_use_ = wrong_use_ || socket->writable_watched || socket->generation != generation;
    socket->writable_watched = true;
  }
  lingerd::PushResult push(lingerd::SocketId id, const lingerd::Content& content) override {
    using enum lingerd::PushResult::State;
    Socket* socket = find(id);
    if (!socket || !contents_.contains(content.id) || socket->fins > 0) {
      wrong_use_ = true;
      return {kReset, 0};
    }
    const std::uint64_t bytes = std::min(socket->takes, content.left);
    if (bytes == 0) return {socket->refuses_with, 0};
    socket->takes -= bytes;
    socket->taken += bytes;
    return {kMoved, bytes};
  }
  void send_fin(lingerd::SocketId id) override {
    if (Socket* socket = find(id)) ++socket->fins;
  }
  void close_content(lingerd::SocketId content) override {
    wrong_use_ = wrong_use_ || contents_.erase(content) != 1;
  }
  void open_content(lingerd::SocketId content) { contents_.insert(content); }
  [[nodiscard]] std::size_t contents() const { return contents_.size(); }

  void close(lingerd::SocketId id, bool watched) override {
    const Socket* socket = find(id);
    if (!socket) return;
    // A registration that outlives its socket would fire for the next one of that number.
    wrong_use_ = wrong_use_ || watched != socket->watched;
    open_.erase(id);
    closed_.push_back(id);
  }

 private:
  // Touching a socket that is closed is what the lingerer must never do.
  Socket* find(lingerd::SocketId id) {
    const auto found = open_.find(id);
    if (found == open_.end()) wrong_use_ = true;
    return found == open_.end() ? nullptr : &found->second;
  }

  std::map<lingerd::SocketId, Socket> open_;
  std::vector<lingerd::SocketId> closed_;
  std::set<lingerd::SocketId> contents_;
  bool wrong_use_ = false;
};
