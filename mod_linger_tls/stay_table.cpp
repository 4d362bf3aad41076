// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/stay_table.h"

#include <openssl/crypto.h>
#include <openssl/rand.h>

#include <algorithm>
#include <cstring>

namespace lingerd::tls {
namespace {

// How far from its own place a stay may lie.
constexpr std::size_t kReach = 32;

// Of one size, as a shelf has it.
struct Shelf {
  std::span<StayPlace> places;
  unsigned char* bytes;
  std::size_t size;  // of a place

  [[nodiscard]] std::size_t place_of(std::uint64_t cookie, std::size_t step) const {
    // Cookies are counted up: multiplied they lie apart.
    const std::uint64_t spread = (cookie * 0x9e37'79b9'7f4a'7c15ULL) >> 32;
    return (spread + step) % places.size();
  }
  [[nodiscard]] Bytes bytes_of(std::size_t place) const { return {bytes + place * size, size}; }
};

template <typename AnyShelf>
Shelf shelf_of(AnyShelf& shelf) {
  return {shelf.places, shelf.bytes[0].data(), shelf.bytes[0].size()};
}

StayPlace::Phase phase_of(std::uint64_t word) {
  return static_cast<StayPlace::Phase>(word & ~kStayMask);
}

bool move(StayPlace& place, std::uint64_t from, std::uint64_t to) {
  return place.word.compare_exchange_strong(from, to, std::memory_order_acq_rel);
}

// How gladly a place is taken; 0: it can't be. Its own, so that a socket has one place; one that
// has been written to before, before one that hasn't.
int fitness(const StayPlace& place, std::uint64_t word, std::uint64_t cookie,
            std::uint64_t now_ns) {
  switch (phase_of(word)) {
    case StayPlace::kOver: return place.cookie.load(std::memory_order_relaxed) == cookie ? 4 : 2;
    case StayPlace::kFree: return 3;
    case StayPlace::kKept: return place.until_ns.load(std::memory_order_relaxed) < now_ns ? 1 : 0;
    // Only a process that died within these few instructions leaves it so: then it is lost.
    case StayPlace::kBusy: return 0;
  }
  return 0;
}

struct Found {
  std::size_t place = 0;
  std::uint64_t word = 0;
  int fitness = 0;
};

Found best_place(const Shelf& shelf, std::uint64_t cookie, std::uint64_t now_ns) {
  Found best;
  for (std::size_t step = 0; step < kReach; ++step) {
    const std::size_t at = shelf.place_of(cookie, step);
    const std::uint64_t word = shelf.places[at].word.load(std::memory_order_acquire);
    const int fits = fitness(shelf.places[at], word, cookie, now_ns);
    if (fits > best.fitness) best = {at, word, fits};
  }
  return best;
}

bool keep_on(const Shelf& shelf, const NewStay& stay, ConstBytes sealed, std::uint64_t now_ns) {
  constexpr int kTries = 8;  // another one may want the same place
  for (int i = 0; i < kTries; ++i) {
    const Found found = best_place(shelf, stay.cookie, now_ns);
    if (found.fitness == 0) return false;
    StayPlace& place = shelf.places[found.place];
    if (!move(place, found.word, stay.id | StayPlace::kBusy)) continue;
    place.cookie.store(stay.cookie, std::memory_order_relaxed);
    place.until_ns.store(stay.until_ns, std::memory_order_relaxed);
    place.length = static_cast<std::uint32_t>(sealed.size());
    place.generation = stay.generation;
    std::ranges::copy(sealed, shelf.bytes_of(found.place).begin());
    place.word.store(stay.id | StayPlace::kKept, std::memory_order_release);
    return true;
  }
  return false;
}

// One that is kept before one that is over; 0: none.
struct Last {
  std::uint64_t kept = 0;
  std::uint64_t over = 0;
};

void look_for_last(const Shelf& shelf, std::uint64_t cookie, Last& last) {
  for (std::size_t step = 0; step < kReach; ++step) {
    const StayPlace& place = shelf.places[shelf.place_of(cookie, step)];
    if (place.cookie.load(std::memory_order_relaxed) != cookie) continue;
    const std::uint64_t word = place.word.load(std::memory_order_acquire);
    // It may have become another's between the two.
    if (place.cookie.load(std::memory_order_relaxed) != cookie) continue;
    if (phase_of(word) == StayPlace::kKept) last.kept = word & kStayMask;
    if (phase_of(word) == StayPlace::kOver) last.over = word & kStayMask;
  }
}

// Of a place that is the caller's alone: it is over.
void end(const Shelf& shelf, std::size_t at, std::uint64_t stay) {
  const Bytes bytes = shelf.bytes_of(at);
  OPENSSL_cleanse(bytes.data(), std::min<std::size_t>(shelf.places[at].length, bytes.size()));
  shelf.places[at].word.store(stay | StayPlace::kOver, std::memory_order_release);
}

Stays::Claimed claim_on(const Shelf& shelf, std::uint64_t cookie, std::uint64_t stay, Bytes out) {
  for (std::size_t step = 0; step < kReach; ++step) {
    const std::size_t at = shelf.place_of(cookie, step);
    StayPlace& place = shelf.places[at];
    const std::uint64_t word = place.word.load(std::memory_order_acquire);
    if (word == (stay | StayPlace::kOver) && place.until_ns.load(std::memory_order_relaxed) != 0) {
      return {.expired = true};
    }
    if (word != (stay | StayPlace::kKept)) continue;
    if (!move(place, stay | StayPlace::kKept, stay | StayPlace::kBusy)) return {};
    place.until_ns.store(0, std::memory_order_relaxed);
    const Bytes bytes = shelf.bytes_of(at);
    const std::size_t length = std::min<std::size_t>({place.length, bytes.size(), out.size()});
    const Stays::Claimed claimed{.good = true, .length = length, .generation = place.generation};
    std::ranges::copy(bytes.first(length), out.begin());
    end(shelf, at, stay);
    return claimed;
  }
  return {};
}

void wipe_expired_on(const Shelf& shelf, std::uint64_t now_ns) {
  for (std::size_t at = 0; at < shelf.places.size(); ++at) {
    StayPlace& place = shelf.places[at];
    const std::uint64_t word = place.word.load(std::memory_order_acquire);
    if (phase_of(word) != StayPlace::kKept) continue;
    if (place.until_ns.load(std::memory_order_relaxed) >= now_ns) continue;
    const std::uint64_t stay = word & kStayMask;
    if (move(place, word, stay | StayPlace::kBusy)) end(shelf, at, stay);
  }
}

std::uint64_t kept_on(const Shelf& shelf, std::uint64_t now_ns) {
  return static_cast<std::uint64_t>(
      std::ranges::count_if(shelf.places, [&](const StayPlace& place) {
        return phase_of(place.word.load(std::memory_order_relaxed)) == StayPlace::kKept &&
               place.until_ns.load(std::memory_order_relaxed) >= now_ns;
      }));
}

}  // namespace

bool Stays::keep(const NewStay& stay, ConstBytes sealed, std::uint64_t now_ns) {
  const Shelf small = shelf_of(table_.small);
  if (sealed.size() <= small.size) return keep_on(small, stay, sealed, now_ns);
  const Shelf large = shelf_of(table_.large);
  return sealed.size() <= large.size && keep_on(large, stay, sealed, now_ns);
}

std::uint64_t Stays::last_of(std::uint64_t cookie) const {
  Last last;
  look_for_last(shelf_of(table_.small), cookie, last);
  if (last.kept == 0) look_for_last(shelf_of(table_.large), cookie, last);
  return last.kept != 0 ? last.kept : last.over;
}

Stays::Claimed Stays::claim(std::uint64_t cookie, std::uint64_t stay, Bytes out) {
  const Claimed small = claim_on(shelf_of(table_.small), cookie, stay, out);
  return small.good || small.expired ? small : claim_on(shelf_of(table_.large), cookie, stay, out);
}

std::uint64_t Stays::kept(std::uint64_t now_ns) const {
  return kept_on(shelf_of(table_.small), now_ns) + kept_on(shelf_of(table_.large), now_ns);
}

void Stays::wipe_expired(std::uint64_t now_ns) {
  wipe_expired_on(shelf_of(table_.small), now_ns);
  wipe_expired_on(shelf_of(table_.large), now_ns);
}

bool Stays::renew_key(std::uint64_t now_ns) {
  StayKeys& keys = table_.keys;
  const std::uint32_t generation = keys.generation.load(std::memory_order_acquire);
  // The place of the next key is that of the one before, which must have served its time.
  if (generation != 0 && now_ns - keys.made_ns.load() < kKeyTimeNs) return true;
  std::uint32_t unlocked = 0;
  if (!keys.lock.compare_exchange_strong(unlocked, 1)) return generation != 0;
  SealKey fresh;
  const bool made = RAND_priv_bytes(fresh.data(), static_cast<int>(fresh.size())) == 1;
  if (made && keys.generation.load() == generation) {
    keys.keys[(generation + 1) % 2] = fresh;
    keys.made_ns.store(now_ns);
    keys.seals.store(0);
    keys.generation.store(generation + 1, std::memory_order_release);
  }
  OPENSSL_cleanse(fresh.data(), fresh.size());
  keys.lock.store(0);
  return made || generation != 0;
}

std::uint32_t Stays::key_to_seal(SealKey& key, std::uint64_t now_ns) {
  StayKeys& keys = table_.keys;
  const std::uint64_t seals = keys.seals.fetch_add(1, std::memory_order_relaxed);
  if (seals >= kSealsRenew && !renew_key(now_ns)) return 0;
  if (keys.seals.load(std::memory_order_relaxed) > kSealsMost) return 0;
  const std::uint32_t generation = keys.generation.load(std::memory_order_acquire);
  return key_of(generation, key) ? generation : 0;
}

bool Stays::key_of(std::uint32_t generation, SealKey& key) const {
  const std::uint32_t now = table_.keys.generation.load(std::memory_order_acquire);
  if (generation == 0 || (generation != now && generation + 1 != now)) return false;
  key = table_.keys.keys[generation % 2];
  return true;
}

}  // namespace lingerd::tls
