// SPDX-License-Identifier: Apache-2.0
// For what has lingers only: nothing is delivered, and whatever tries to is at an end.
#pragma once

#include <cstdint>
#include <cstdlib>

#include "lingerd/core/deadlines.h"
#include "lingerd/core/deliveries.h"
#include "lingerd/core/delivery.h"

class NoDeliveries final : public lingerd::DeliveryOps {
 public:
  std::uint64_t unsent(lingerd::SocketId) override { std::abort(); }
  bool watch_writable(lingerd::SocketId, std::uint32_t) override { std::abort(); }
  void watch_readable_again(lingerd::SocketId, std::uint32_t) override { std::abort(); }
  void stop_watching(lingerd::SocketId, std::uint32_t) override { std::abort(); }
  void watch_writable_again(lingerd::SocketId, std::uint32_t) override { std::abort(); }
  lingerd::PushResult push(lingerd::SocketId, const lingerd::Content&) override { std::abort(); }
  void send_fin(lingerd::SocketId) override { std::abort(); }
  void close_content(lingerd::SocketId) override { std::abort(); }
};
