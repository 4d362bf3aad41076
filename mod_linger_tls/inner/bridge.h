// SPDX-License-Identifier: Apache-2.0
// Goes on with a client's TLS connection in a process that hasn't made it: between the client,
// whose records it opens and seals under the secrets that came with the connection, and mod_ssl's
// SSL object of this process, with which it has a connection of its own, in memory.
//
//   client  <- outer records -> Bridge <- inner records ->  mod_ssl
//
// Knows no socket and no httpd: bytes go in, and bytes wait to be taken. How it is used:
//   1. start(); in mod_ssl's hook pre_handshake: ServerSession::admit() with a callback that calls
//   find_session().
//   2. mod_ssl reads: it gets for_server(). Nothing there: once up(), what the client sends goes to
//   from_client(),
//      which leaves something in for_server() (or not yet: half a record). Before that it is
//      mod_ssl's turn, always.
//   3. mod_ssl writes: from_server(); then all of for_client() goes to the client. from_client()
//   leaves something
//      there only if it failed.
//      What would only be encrypted by mod_ssl, opened here and sealed once more is better sealed
//      at once: while may_pass_by(), freshen_client_key(), then for_client(), then seal_content().
//   4. Any of them has said false: an alert may be in for_client(); send it, and end the
//   connection. It
//      says false ever after.
//   5. To be parked: why_not_park() has nothing to say; state(). After the state has been given
//   away, seal
//      no record any more: forget().
// Throws std::bad_alloc only.
#pragma once

#include <openssl/ssl.h>

#include <cstddef>
#include <vector>

#include "mod_linger_tls/inner/inner_client.h"
#include "mod_linger_tls/inner/server_session.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/handshake_messages.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/record_parser.h"
#include "mod_linger_tls/layer/state.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {

class Bridge {
 public:
  // `suite_of(state.suite)` must be there.
  explicit Bridge(TlsState state);
  Bridge(const Bridge&) = delete;
  Bridge& operator=(const Bridge&) = delete;

  // False: the connection can't be gone on with.
  [[nodiscard]] bool start();
  [[nodiscard]] int find_session(const unsigned char* identity, std::size_t length,
                                 SSL_SESSION** session) const;

  // The inner handshake is over, from the client's side.
  bool up() const { return client_.done(); }
  // An alert of the client's has gone to the server: nothing more comes. Bytes behind it are
  // ignored.
  bool client_has_ended() const { return client_ended_; }
  // One of the server's (close_notify, mostly) has gone to the client: nothing more may be sent.
  bool server_has_ended() const { return server_ended_; }

  [[nodiscard]] bool from_client(ConstBytes bytes);
  [[nodiscard]] bool from_server(ConstBytes bytes);

  // Nothing of mod_ssl's has to reach the client before what passes it by.
  bool may_pass_by() const {
    return up() && !failed() && !server_ended_ && server_parser_.empty() &&
           server_messages_.empty();
  }
  // Before the next records: a KeyUpdate, if it is time for one. At most some thousand records
  // later it is to be asked again.
  [[nodiscard]] bool freshen_client_key();
  static constexpr std::size_t records_length(std::size_t content) {
    return content + (content + kMaxContent - 1) / kMaxContent * kOverhead;
  }
  // `records`: records_length() of the content.
  [[nodiscard]] bool seal_content(ConstBytes content, Bytes records);

  // Why one of them has said false, for the log; "" as long as none has.
  const char* failure() const { return failure_; }

  // What waits, and that so much of it has been taken. Valid until the next call that isn't const.
  ConstBytes for_server() const { return waiting(to_server_, server_took_); }
  ConstBytes for_client() const { return waiting(to_client_, client_took_); }
  void server_took(std::size_t bytes) { take(to_server_, server_took_, bytes); }
  void client_took(std::size_t bytes) { take(to_client_, client_took_, bytes); }

  // nullptr: nothing is under way on either side that a stay would lose. What the SSL object and
  // httpd's filters hold is for the caller to ask.
  const char* why_not_park() const;
  // For the next stay: one trip more.
  TlsState state() const;
  // The state is somebody else's now: from here on nothing is sealed or opened, and all keys are
  // wiped.
  void forget();

 private:
  static ConstBytes waiting(const std::vector<unsigned char>& bytes, std::size_t taken) {
    return ConstBytes(bytes).subspan(taken);
  }
  static void take(std::vector<unsigned char>& bytes, std::size_t& taken, std::size_t now);

  bool failed() const { return *failure_ != '\0'; }
  bool fail(const char* why, Alert to_client = Alert::kInternalError);

  bool client_record(ConstBytes record);
  bool client_handshake(ConstBytes content);
  bool client_alert(ConstBytes content);
  bool give_server(ContentType type, std::size_t length, std::size_t at);
  bool give_server(ContentType type, ConstBytes content);

  bool server_record(ConstBytes record);
  bool server_handshake(ConstBytes content);
  bool server_key_update(ConstBytes body);
  bool give_client(ContentType type, ConstBytes content);
  bool tell_client_of_new_key();

  TlsState state_;  // its secrets are in client_in_ and client_out_ once they have started
  const Suite& suite_;
  Hkdf hkdf_;
  ServerSession session_;
  InnerClient client_;
  RecordOpener client_in_;
  RecordSealer client_out_;
  RecordParser client_parser_{RecordParser::Stage::kEncrypted};
  RecordParser server_parser_{RecordParser::Stage::kHandshake};
  HandshakeMessages client_messages_{kKeyUpdateLength};
  HandshakeMessages server_messages_{kMaxContent};
  const char* failure_ = "";
  bool client_ended_ = false;
  bool server_ended_ = false;
  bool answer_due_ = false;  // to a KeyUpdate of the client's: before the next record to it
  unsigned empty_records_ = 0;
  std::vector<unsigned char> to_server_;
  std::vector<unsigned char> to_client_;
  std::size_t server_took_ = 0;
  std::size_t client_took_ = 0;
};

}  // namespace lingerd::tls
