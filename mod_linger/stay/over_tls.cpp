// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/over_tls.h"

#include "contract/counters.h"
#include "mod_linger/child.h"
#include "mod_linger/stay/objections.h"
#include "mod_linger/tally.h"

namespace lingerd {
namespace {

const TlsParking* known = nullptr;

void count(ModuleCounter counter, std::uint64_t by) {
  if (Tally* tally = this_child().tally) tally->count(counter, by);
}

const LingerSide* linger_tls_parking_1(const TlsParking* parking) {
  static constexpr LingerSide kSide{count, may_be_parked};
  known = parking;
  this_child().kept_tls = parking->kept;
  return &kSide;
}

}  // namespace

void register_tls_parking() {
  // What an earlier configuration has loaded may be gone.
  known = nullptr;
  this_child().kept_tls = nullptr;
  APR_REGISTER_OPTIONAL_FN(linger_tls_parking_1);
}

const TlsParking* tls_parking() {
  return known;
}

const TlsParking* tls_parking_of(conn_rec* connection) {
  return known != nullptr && known->knows(connection) ? known : nullptr;
}

std::uint64_t keep_until(std::uint64_t now_ns, std::uint32_t keepalive_ms) {
  // lingerd gives up after 10 s; then it waits for a worker, in httpd's own queue.
  constexpr std::uint64_t kLongerMs = 60'000;
  return now_ns + (keepalive_ms + kLongerMs) * 1'000'000;
}

TlsBinding binding_of(const SocketIdentity& identity) {
  return {identity.cookie,
          {reinterpret_cast<const unsigned char*>(&identity), sizeof(SocketIdentity)}};
}

}  // namespace lingerd
