// SPDX-License-Identifier: Apache-2.0
// The sealed states of parked connections, in memory that all of httpd's children share, and the
// keys that they are sealed with. Nothing here waits: a place changes hands by one compare-and-
// exchange, so that a stay ends once, whoever asks for it how often. Without httpd.
//
// A stay's place is found by its socket's cookie, which no two sockets share. Its id is random: who
// hasn't parked the connection can't name it. When it is over the place remembers that, until it is
// needed for another, so that the second who asks is told from one who makes things up.
//
// It lies in memory that is zero to begin with, and is never written to where nothing has been: an
// untouched page costs nothing.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/state.h"

namespace lingerd::tls {

// The lowest bits of a stay's id are none of its own.
inline constexpr std::uint64_t kStayMask = ~std::uint64_t{3};

struct StayPlace {
  enum Phase : std::uint64_t {
    kFree,
    kBusy,  // somebody writes or reads it
    kKept,
    kOver,
  };
  std::atomic<std::uint64_t> word;    // stay | phase
  std::atomic<std::uint64_t> cookie;  // of its socket
  // CLOCK_MONOTONIC: nobody comes for it after that. 0: somebody has come.
  std::atomic<std::uint64_t> until_ns;
  std::uint32_t length;
  std::uint32_t generation;  // of the key
};
static_assert(sizeof(StayPlace) == 32);

// Places of one size.
template <std::size_t kPlaces, std::size_t kBytes>
struct StayShelf {
  std::array<StayPlace, kPlaces> places;
  std::array<std::array<unsigned char, kBytes>, kPlaces> bytes;
};

// The sealing key, and the one before it. A new one is made when the one before is of no use any
// more, because nothing that it has sealed is kept.
struct StayKeys {
  std::atomic<std::uint32_t> generation;  // 0: there is none yet
  std::atomic<std::uint32_t> lock;
  std::atomic<std::uint64_t> made_ns;
  std::atomic<std::uint64_t> seals;  // by the present one
  std::array<SealKey, 2> keys;
};

struct StayTable {
  // Nearly all states have the first size; one with a long server's name has the second.
  StayShelf<131'072, 512> small;
  StayShelf<8'192, kMaxSealedState> large;
  StayKeys keys;
};

struct NewStay {
  std::uint64_t id = 0;
  std::uint64_t cookie = 0;
  std::uint32_t generation = 0;
  std::uint64_t until_ns = 0;
};

class Stays {
 public:
  explicit Stays(StayTable& table) : table_(table) {}

  // False: no place is free near the one that is its own.
  [[nodiscard]] bool keep(const NewStay& stay, ConstBytes sealed, std::uint64_t now_ns);

  // The last stay of this socket, over or not; 0: none that is remembered.
  [[nodiscard]] std::uint64_t last_of(std::uint64_t cookie) const;

  struct Claimed {
    bool good = false;     // it was kept, and is the caller's alone
    bool expired = false;  // it was kept, and nobody came for it in time
    std::size_t length = 0;
    std::uint32_t generation = 0;
  };
  // `out`: kMaxSealedState.
  [[nodiscard]] Claimed claim(std::uint64_t cookie, std::uint64_t stay, Bytes out);

  [[nodiscard]] std::uint64_t kept(std::uint64_t now_ns) const;

  // Wipes what nobody comes for any more: lingerd ends connections without a word to httpd.
  void wipe_expired(std::uint64_t now_ns);

  // How long a key is used at least, and kept after that: no stay is longer.
  static constexpr std::uint64_t kKeyTimeNs = std::uint64_t{2} * 3600 * 1'000'000'000;
  // GCM's random nonces allow 2^32 seals with one key.
  static constexpr std::uint64_t kSealsRenew = std::uint64_t{1} << 30;
  static constexpr std::uint64_t kSealsMost = std::uint64_t{1} << 31;

  // Makes a key if there is none, or if it is time for a new one. False: there is none.
  [[nodiscard]] bool renew_key(std::uint64_t now_ns);
  // For one seal more, which is counted: its generation; 0: it has sealed too much.
  [[nodiscard]] std::uint32_t key_to_seal(SealKey& key, std::uint64_t now_ns);
  // False: it is gone.
  [[nodiscard]] bool key_of(std::uint32_t generation, SealKey& key) const;

 private:
  StayTable& table_;
};

}  // namespace lingerd::tls
