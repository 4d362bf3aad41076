// SPDX-License-Identifier: Apache-2.0
// A client that has the keys of its connection and says anything, between it and OpenSSL's server
// the bridge: the server hears what the client has said, in order, and no more; whatever comes back
// to the client opens under the next sequence number; after a failure there is one alert, and
// nothing else. And what else is read of bytes that somebody wrote: a state, and the inner server's
// handshake.
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "mod_linger_tls/inner/bridge.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/state.h"
#include "mod_linger_tls/layer/suite.h"
#include "mod_linger_tls/layer/wire.h"
#include "t/unit/tls_bytes.h"
#include "t/unit/tls_ends.h"
#include "t/unit/tls_process.h"

namespace {

using namespace lingerd::tls;
using tls_bytes::Buffer;
using tls_ends::must;
using tls_ends::Process;

constexpr std::string_view kKeyUpdate("\x18\0\0\1", 4);

struct Met {
  tls_ends::Key key = tls_ends::p256_key();
  tls_ends::Context servers = tls_ends::server_context(key);
  tls_ends::Context clients = tls_ends::client_context();
  tls_ends::End client{clients.get()};
  TlsState state = tls_ends::meet(servers.get(), client);
};

Met& met() {
  static Met once;
  return once;
}

class Conversation {
 public:
  Conversation() : process_(met().servers.get(), met().state), hkdf_(*suite_of(met().state.suite)) {
    process_.shake_hands();
    must(process_.good && sealer_.start(hkdf_, met().state.client) &&
         opener_.start(hkdf_, met().state.server));
  }

  // A client takes its next key behind a whole KeyUpdate.
  void client_record(unsigned char type, Buffer content, std::size_t padding, std::size_t piece) {
    const Buffer record = tls_bytes::record_of(sealer_, type, content, padding);
    // What is sealed as type 0 is padding, and the type before that.
    while (type == 0 && !content.empty()) {
      type = content.back();
      content.pop_back();
    }
    if (static_cast<ContentType>(type) == ContentType::kApplicationData) said_ += text_of(content);
    if (static_cast<ContentType>(type) == ContentType::kHandshake) {
      message_ += text_of(content);
      if (message_.size() == kKeyUpdateLength && message_.starts_with(kKeyUpdate)) {
        must(sealer_.advance(hkdf_));
        message_.clear();
      }
    }
    client_bytes(record, piece);
  }
  void client_bytes(ConstBytes bytes, std::size_t piece) {
    for (std::size_t at = 0; at < bytes.size(); at += piece) {
      heard_ += process_.hear(bytes.subspan(at, std::min(piece, bytes.size() - at)));
    }
    look();
  }
  void server_says(ConstBytes content) {
    const bool can =
        process_.good && !content.empty() && SSL_get_shutdown(process_.server.ssl()) == 0 &&
        SSL_write(process_.server.ssl(), content.data(), static_cast<int>(content.size())) > 0;
    if (can) process_.take_from_server();
    look();
  }

 private:
  void look() {
    must(said_.starts_with(heard_));
    must(process_.good == (*process_.bridge.failure() == '\0'));
    const std::string records = process_.for_client();
    ConstBytes left = tls_ends::bytes(records);
    while (!left.empty()) {
      must(!over_ && left.size() > kHeaderLength);
      const std::size_t length = kHeaderLength + (std::size_t{left[3]} << 8 | left[4]);
      must(length <= left.size());
      Buffer plain(length);
      const RecordOpener::Opened opened = opener_.open(left.first(length), plain);
      must(opened.good);
      if (opened.type == ContentType::kHandshake) must(opener_.advance(hkdf_));
      left = left.subspan(length);
      over_ = opened.type == ContentType::kAlert;
    }
    must(process_.good || over_);
    if (process_.bridge.why_not_park() == nullptr) {
      must(process_.good &&
           process_.bridge.state().client.sequence == sealer_.direction().sequence);
      must(process_.bridge.state().server.sequence == opener_.direction().sequence);
    }
  }

  Process process_;
  Hkdf hkdf_;
  RecordSealer sealer_;  // the client's
  RecordOpener opener_;
  std::string message_;
  std::string said_;
  std::string heard_;
  bool over_ = false;
};

void converse(ConstBytes input) {
  Conversation conversation;
  Reader in(input);
  while (!in.at_end()) {
    const auto how = static_cast<unsigned char>(in.number(1));
    const auto type = static_cast<unsigned char>(in.number(1));
    const ConstBytes content = in.bytes(std::min<std::size_t>(in.number(1), in.left()));
    const std::size_t piece = how % 4 == 3 ? 1 : 4'096;
    if (how < 128) {
      conversation.client_record(type, Buffer(content.begin(), content.end()), how / 4 * 9, piece);
    } else if (how < 160) {
      conversation.client_bytes(content, piece);
    } else {
      conversation.server_says(content);
    }
  }
  ERR_clear_error();
}

void read_state(ConstBytes input) {
  TlsState state;
  if (decode(input, state)) {
    Buffer again(kMaxState);
    again.resize(encode(state, again));
    must(again.empty() ? input.size() > kMaxState : same(again, input));
    Bridge bridge(state);
    if (bridge.start()) must(!bridge.up());
  }
  (void)unseal(input, {1}, {}, state);
}

void answer_hello(ConstBytes input) {
  Bridge bridge(met().state);
  must(bridge.start());
  (void)bridge.from_server(input);
  must(!bridge.up());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const ConstBytes input(data, size);
  if (input.empty()) return 0;
  switch (input[0] % 4) {
    case 0: read_state(input.subspan(1)); break;
    case 1: answer_hello(input.subspan(1)); break;
    default: converse(input.subspan(1)); break;
  }
  return 0;
}
