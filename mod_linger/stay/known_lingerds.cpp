// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/known_lingerds.h"

#include <apr_strings.h>
#include <http_config.h>
#include <sys/stat.h>
#include <unixd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <new>
#include <optional>
#include <string>

#include "mod_linger/child.h"

namespace lingerd {
namespace {

constexpr uid_t kNobody = static_cast<uid_t>(-1);

// Of this httpd, over its restarts.
struct Retained {
  char page[512] = {};            // as the parent sees it
  std::array<uid_t, 8> before{};  // who owned those of before, the last ones of all
  std::size_t changes = 0;
};

std::array<uid_t, 8> earlier{};  // as retained, where children look

Retained& retained(server_rec* server) {
  static const char* const kKey = "mod_linger earlier lingerds";
  auto* known = static_cast<Retained*>(ap_retained_data_get(kKey));
  // ap_retained_data_create keeps the key's pointer, and this module may be unloaded.
  if (known == nullptr) {
    known =
        new (ap_retained_data_create(apr_pstrdup(server->process->pool, kKey), sizeof(Retained)))
            Retained;
    known->before.fill(kNobody);
  }
  return *known;
}

// The stats page is lingerd's own file, in a directory where nobody else may write: its owner is
// lingerd.
std::optional<uid_t> owner_of(const char* page) {
  struct stat file {};
  if (lstat(page, &file) != 0 || !S_ISREG(file.st_mode)) return std::nullopt;
  return file.st_uid;
}

}  // namespace

void learn_lingerds(server_rec* server) {
  Retained& kept = retained(server);
  const char* root = ap_unixd_config.chroot_dir;  // of the children
  const std::string page = std::string(root != nullptr ? root : "") + stats_path();
  if (page != kept.page) {
    if (const auto owner = owner_of(kept.page)) {
      kept.before[kept.changes++ % kept.before.size()] = *owner;
    }
    apr_cpystrn(kept.page, page.c_str(), sizeof kept.page);
  }
  earlier = kept.before;
}

// Looked at again when somebody else comes, because lingerd may have changed its user.
bool is_lingerd(uid_t user) {
  // The kernel shows every user that our user namespace doesn't know as this one: it is nobody.
  constexpr uid_t kUnmapped = 65'534;
  if (user == kUnmapped) return false;
  static std::atomic<uid_t> known{kNobody};
  if (known.load(std::memory_order_relaxed) == user) return true;
  if (owner_of(stats_path()) == user) {
    known.store(user, std::memory_order_relaxed);
    return true;
  }
  return std::find(earlier.begin(), earlier.end(), user) != earlier.end();
}

}  // namespace lingerd
