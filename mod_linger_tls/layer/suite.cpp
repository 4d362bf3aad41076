// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/layer/suite.h"

#include <openssl/evp.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace lingerd::tls {
namespace {

// AES-GCM: RFC 8446 allows 2^24.5 records. ChaCha20-Poly1305 has no such limit that matters.
constexpr std::uint64_t kGcmRecords = std::uint64_t{1} << 24;
constexpr std::uint64_t kChaChaRecords = std::uint64_t{1} << 48;

constexpr std::array<Suite, 3> kSuites{{
    {0x1301, 16, 32, "AES-128-GCM", "SHA2-256", kGcmRecords},
    {0x1302, 32, 48, "AES-256-GCM", "SHA2-384", kGcmRecords},
    {0x1303, 32, 32, "ChaCha20-Poly1305", "SHA2-256", kChaChaRecords},
}};

struct Free {
  void operator()(EVP_CIPHER* cipher) const { EVP_CIPHER_free(cipher); }
  void operator()(EVP_MD* digest) const { EVP_MD_free(digest); }
  void operator()(EVP_MAC* mac) const { EVP_MAC_free(mac); }
};

// Fetching has started OpenSSL before any of these is complete, so that at a process's end they go
// before it does; and when httpd unloads the module, they go with that.
struct Fetched {
  std::array<std::unique_ptr<EVP_CIPHER, Free>, kSuites.size()> ciphers;
  std::array<std::unique_ptr<EVP_MD, Free>, kSuites.size()> digests;
  std::unique_ptr<EVP_MAC, Free> hmac{EVP_MAC_fetch(nullptr, "HMAC", nullptr)};

  Fetched() {
    for (std::size_t i = 0; i < kSuites.size(); ++i) {
      ciphers[i].reset(EVP_CIPHER_fetch(nullptr, kSuites[i].cipher, nullptr));
      digests[i].reset(EVP_MD_fetch(nullptr, kSuites[i].digest, nullptr));
    }
  }
};

const Fetched& fetched() {
  static const Fetched all;
  return all;
}

std::size_t index_of(const Suite& suite) {
  return static_cast<std::size_t>(&suite - kSuites.data());
}

}  // namespace

const Suite* suite_of(std::uint16_t id) {
  for (const Suite& each : kSuites) {
    if (each.id == id) return &each;
  }
  return nullptr;
}

const EVP_CIPHER* cipher_of(const Suite& suite) {
  return fetched().ciphers[index_of(suite)].get();
}

const EVP_MD* digest_of(const Suite& suite) {
  return fetched().digests[index_of(suite)].get();
}

EVP_MAC* hmac_algorithm() {
  return fetched().hmac.get();
}

}  // namespace lingerd::tls
