// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/inner/schedule.h"

#include <array>
#include <cstddef>
#include <string_view>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {
namespace {

// Where the schedule has nothing to put in: a string of zeros as long as the hash.
constexpr std::array<unsigned char, kMaxHashLength> kZeros{};

}  // namespace

bool Schedule::hash_now(Hash& hash, ConstBytes& out) {
  out = ConstBytes(hash).first(hkdf_.suite().hash_length);
  return hkdf_.hash(transcript_, hash);
}

bool Schedule::begin(const Secret& key) {
  return hkdf_.extract(ConstBytes(kZeros).first(hkdf_.suite().hash_length), key.get(), stage_);
}

bool Schedule::binder(ConstBytes hello, Secret& out) {
  const std::size_t length = hkdf_.suite().hash_length;
  Hash nothing;
  Hash hash;
  Secret key;
  return hkdf_.hash({}, nothing) && hkdf_.hash(hello, hash) &&
         hkdf_.expand_label(stage_, "ext binder", ConstBytes(nothing).first(length), key) &&
         hkdf_.expand_label(key, "finished", {}, key) &&
         hkdf_.hmac(key.get(), ConstBytes(hash).first(length), out.reset(length));
}

// Without a key exchange nothing new comes in.
bool Schedule::next_stage() {
  const std::size_t length = hkdf_.suite().hash_length;
  Hash nothing;
  Secret derived;
  return hkdf_.hash({}, nothing) &&
         hkdf_.expand_label(stage_, "derived", ConstBytes(nothing).first(length), derived) &&
         hkdf_.extract(derived.get(), ConstBytes(kZeros).first(length), stage_);
}

bool Schedule::traffic(std::string_view label, ConstBytes hash, Direction& out) {
  out.sequence = 0;
  return hkdf_.expand_label(stage_, label, hash, out.secret);
}

bool Schedule::enter_handshake(Direction& client, Direction& server) {
  Hash hash;
  ConstBytes now;
  return next_stage() && hash_now(hash, now) && traffic("c hs traffic", now, client) &&
         traffic("s hs traffic", now, server);
}

bool Schedule::enter_application(Direction& client, Direction& server) {
  Hash hash;
  ConstBytes now;
  return next_stage() && hash_now(hash, now) && traffic("c ap traffic", now, client) &&
         traffic("s ap traffic", now, server);
}

bool Schedule::finished(const Secret& traffic, Secret& out) {
  Hash hash;
  ConstBytes now;
  Secret key;
  return hash_now(hash, now) && hkdf_.expand_label(traffic, "finished", {}, key) &&
         hkdf_.hmac(key.get(), now, out.reset(hkdf_.suite().hash_length));
}

}  // namespace lingerd::tls
