// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/client_rules.h"

#include <httpd.h>  // before the others, which need it

#include <apr_strings.h>
#include <http_config.h>

#include <string_view>

namespace lingerd::tls {
namespace {

constexpr std::uint32_t kNoRules = 0x811c'9dc5;  // FNV-1a's beginning

std::uint32_t rules = kNoRules;
bool asks_late = false;

bool is(const char* a, const char* b) {
  return strcasecmp(a, b) == 0;
}

std::uint32_t digest(std::uint32_t before, std::string_view text) {
  for (const char c : text) before = (before ^ static_cast<unsigned char>(c)) * 0x0100'0193;
  return before * 0x0100'0193;  // the end of a text
}

// A .htaccess file, which is read with each request only, may say SSLVerifyClient.
bool lets_htaccess_ask(const ap_directive_t* directive, apr_pool_t* pool) {
  if (is(directive->directive, "AllowOverrideList")) {
    return ap_strcasestr(directive->args, "SSLVerifyClient") != nullptr;
  }
  if (!is(directive->directive, "AllowOverride")) return false;
  const char* arguments = directive->args;
  while (*arguments != '\0') {
    const char* word = ap_getword_conf(pool, &arguments);
    if (is(word, "All") || is(word, "AuthConfig")) return true;
  }
  return false;
}

// Of directories, locations, files: mod_ssl then asks in mid-connection.
bool is_directory(const char* section) {
  return *section == '<' && !is(section, "<VirtualHost") && !is(section, "<IfModule") &&
         !is(section, "<IfDefine");
}

// `path`: a digest of the sections around them.
void learn(const ap_directive_t* first, std::uint32_t path, bool in_directory, apr_pool_t* pool) {
  for (const ap_directive_t* each = first; each != nullptr; each = each->next) {
    if (is(each->directive, "SSLVerifyClient")) {
      rules = digest(rules ^ path, each->args);
      asks_late = asks_late || in_directory;
    }
    asks_late = asks_late || lets_htaccess_ask(each, pool);
    if (each->first_child == nullptr) continue;
    learn(each->first_child, digest(digest(path, each->directive), each->args),
          in_directory || is_directory(each->directive), pool);
  }
}

}  // namespace

void learn_client_rules(apr_pool_t* temp_pool) {
  rules = kNoRules;
  asks_late = false;
  learn(ap_conftree, kNoRules, false, temp_pool);
}

std::uint32_t client_rules() {
  return rules;
}

bool may_ask_for_certificate() {
  return asks_late;
}

}  // namespace lingerd::tls
