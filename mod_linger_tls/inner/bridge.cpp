// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/inner/bridge.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include "mod_linger_tls/inner/client_hello.h"
#include "mod_linger_tls/inner/error_mark.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/handshake_messages.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/record_parser.h"
#include "mod_linger_tls/layer/state.h"
#include "mod_linger_tls/layer/suite.h"

namespace lingerd::tls {
namespace {

constexpr unsigned char kFatal = 2;
// In a row, without any content: as many as OpenSSL puts up with.
constexpr unsigned kMaxEmptyRecords = 32;

enum KeyUpdateRequest : unsigned char { kNotRequested = 0, kRequested = 1 };

constexpr std::array<unsigned char, kKeyUpdateLength> key_update(KeyUpdateRequest request) {
  return {static_cast<unsigned char>(HandshakeType::kKeyUpdate), 0, 0, 1, request};
}

// Each side's next secret begins behind the record that says so.
bool is_key_update(const HandshakeMessages::Message& message) {
  return message.type == HandshakeType::kKeyUpdate && message.ends_record &&
         message.body.size() == 1 && message.body[0] <= kRequested;
}

// All but user_canceled, behind which a close_notify comes, end the connection, whatever level they
// name (RFC 8446, 6).
bool ends_connection(ConstBytes alert) {
  return static_cast<Alert>(alert[1]) != Alert::kUserCanceled;
}

}  // namespace

Bridge::Bridge(TlsState state)
    : state_(std::move(state)), suite_(*suite_of(state_.suite)), hkdf_(suite_), client_(hkdf_) {}

bool Bridge::start() {
  const ErrorMark mark;
  const bool started =
      client_in_.start(hkdf_, state_.client) && client_out_.start(hkdf_, state_.server);
  state_.client = {};
  state_.server = {};
  if (!started) return fail("OpenSSL has no keys for the client");
  if (!session_.start(suite_, state_.session)) return fail("a session that can't be read");
  const InnerHello hello{.identity = session_.identity(),
                         .key = &session_.key(),
                         .server_name = state_.server_name,
                         .alpn = state_.alpn,
                         .secure_renegotiation = state_.secure_renegotiation};
  return client_.start(hello, to_server_) || fail(client_.failure());
}

int Bridge::find_session(const unsigned char* identity, std::size_t length,
                         SSL_SESSION** session) const {
  return session_.find(identity, length, session);
}

void Bridge::take(std::vector<unsigned char>& bytes, std::size_t& taken, std::size_t now) {
  taken += now;
  if (taken < bytes.size()) return;
  bytes.clear();
  taken = 0;
}

bool Bridge::fail(const char* why, Alert to_client) {
  if (failed()) return false;
  if (!server_ended_) {
    server_ended_ = true;
    (void)give_client(ContentType::kAlert,
                      std::array{kFatal, static_cast<unsigned char>(to_client)});
  }
  failure_ = why;
  return false;
}

// ---- From the client

bool Bridge::from_client(ConstBytes bytes) {
  const ErrorMark mark;
  while (!failed() && !client_ended_) {
    const RecordParser::Step step = client_parser_.next(bytes);
    bytes = bytes.subspan(step.used);
    if (step.result == RecordParser::Result::kNeedsMore) break;
    if (step.result == RecordParser::Result::kBad) {
      return fail("the client sends no record of TLS 1.3", step.alert);
    }
    if (!client_record(step.record)) return false;
  }
  return !failed();
}

// Opened where the record for the server is to be: what is application data is sealed there again.
bool Bridge::client_record(ConstBytes record) {
  const std::size_t at = to_server_.size();
  to_server_.resize(at + record.size());
  const Bytes plain = Bytes(to_server_).subspan(at + kHeaderLength);
  const RecordOpener::Opened opened = client_in_.open(record, plain);
  if (opened.good && opened.type == ContentType::kApplicationData && client_messages_.empty() &&
      opened.length > 0) {
    empty_records_ = 0;
    return give_server(opened.type, opened.length, at);
  }
  const std::vector<unsigned char> content(
      plain.begin(), plain.begin() + static_cast<std::ptrdiff_t>(opened.length));
  to_server_.resize(at);
  if (!opened.good) return fail("a record of the client's doesn't open", opened.alert);
  if (opened.type == ContentType::kHandshake) return client_handshake(content);
  if (!client_messages_.empty()) {
    return fail("a record of the client's within a message", Alert::kUnexpectedMessage);
  }
  if (opened.type == ContentType::kAlert) return client_alert(content);
  return ++empty_records_ <= kMaxEmptyRecords ||
         fail("the client sends empty records", Alert::kUnexpectedMessage);
}

// Of all messages that a client may send at this time, this is the one that mod_ssl hasn't got to
// ask for.
bool Bridge::client_handshake(ConstBytes content) {
  client_messages_.add(content);
  HandshakeMessages::Message message;
  while (client_messages_.next(message)) {
    if (!is_key_update(message)) {
      return fail("a handshake message of the client's", Alert::kUnexpectedMessage);
    }
    answer_due_ = answer_due_ || message.body[0] == kRequested;
    if (!client_in_.advance(hkdf_)) return fail("OpenSSL has no keys for the client");
  }
  return !client_messages_.too_long() ||
         fail("a handshake message of the client's", Alert::kUnexpectedMessage);
}

bool Bridge::client_alert(ConstBytes content) {
  if (content.size() != kAlertLength) {
    return fail("an alert of the client's that can't be read", Alert::kDecodeError);
  }
  client_ended_ = ends_connection(content);
  return give_server(ContentType::kAlert, content);
}

// The content is in to_server_, where a record that begins at `at` has it.
bool Bridge::give_server(ContentType type, std::size_t length, std::size_t at) {
  to_server_.resize(at + kOverhead + length);
  if (client_.to_server().seal(type, length, Bytes(to_server_).subspan(at))) return true;
  to_server_.resize(at);
  return fail("OpenSSL can't seal a record for mod_ssl");
}

bool Bridge::give_server(ContentType type, ConstBytes content) {
  const std::size_t at = to_server_.size();
  to_server_.resize(at + kHeaderLength);
  to_server_.insert(to_server_.end(), content.begin(), content.end());
  return give_server(type, content.size(), at);
}

// ---- From the server

bool Bridge::from_server(ConstBytes bytes) {
  const ErrorMark mark;
  while (!failed()) {
    const RecordParser::Step step = server_parser_.next(bytes);
    bytes = bytes.subspan(step.used);
    if (step.result == RecordParser::Result::kNeedsMore) break;
    if (step.result == RecordParser::Result::kBad) return fail("mod_ssl sends no record");
    if (client_.done()) {
      if (!server_record(step.record)) return false;
    } else {
      if (!client_.handshake_record(step.record, to_server_)) return fail(client_.failure());
      if (client_.done()) server_parser_.set_stage(RecordParser::Stage::kEncrypted);
    }
  }
  return !failed();
}

bool Bridge::server_record(ConstBytes record) {
  if (!freshen_client_key()) return false;
  const std::size_t at = to_client_.size();
  to_client_.resize(at + record.size());
  const Bytes plain = Bytes(to_client_).subspan(at + kHeaderLength);
  const RecordOpener::Opened opened = client_.from_server().open(record, plain);
  const std::size_t length = opened.good && !server_ended_ ? opened.length : 0;
  if (length == 0 || opened.type == ContentType::kHandshake) {
    const std::vector<unsigned char> content(plain.begin(),
                                             plain.begin() + static_cast<std::ptrdiff_t>(length));
    to_client_.resize(at);
    if (!opened.good) return fail("a record of mod_ssl's doesn't open");
    return opened.type != ContentType::kHandshake || server_handshake(content);
  }
  if (opened.type == ContentType::kAlert) {
    if (length != kAlertLength) return fail("an alert of mod_ssl's that can't be read");
    server_ended_ = ends_connection(plain.first(kAlertLength));
  }
  to_client_.resize(at + kOverhead + length);
  return client_out_.seal(opened.type, length, Bytes(to_client_).subspan(at)) ||
         fail("OpenSSL can't seal a record for the client");
}

// A ticket would be for a session with this process.
bool Bridge::server_handshake(ConstBytes content) {
  server_messages_.add(content);
  HandshakeMessages::Message message;
  while (server_messages_.next(message)) {
    if (message.type == HandshakeType::kNewSessionTicket) continue;
    if (!is_key_update(message)) return fail("a handshake message of mod_ssl's");
    if (!server_key_update(message.body)) return false;
  }
  return !server_messages_.too_long() || fail("a handshake message of mod_ssl's");
}

// Whoever has asked for new keys gets them on both connections.
bool Bridge::server_key_update(ConstBytes body) {
  if (!client_.from_server().advance(hkdf_)) return fail("OpenSSL has no keys for mod_ssl");
  if (body[0] == kRequested) {
    if (!give_server(ContentType::kHandshake, key_update(kNotRequested))) return false;
    if (!client_.to_server().advance(hkdf_)) return fail("OpenSSL has no keys for mod_ssl");
  }
  return tell_client_of_new_key();
}

// ---- To the client

bool Bridge::give_client(ContentType type, ConstBytes content) {
  const std::size_t at = to_client_.size();
  to_client_.resize(at + kHeaderLength);
  to_client_.insert(to_client_.end(), content.begin(), content.end());
  to_client_.resize(at + kOverhead + content.size());
  if (client_out_.seal(type, content.size(), Bytes(to_client_).subspan(at))) return true;
  to_client_.resize(at);
  return false;
}

bool Bridge::seal_content(ConstBytes content, Bytes records) {
  const ErrorMark mark;
  while (!content.empty()) {
    const std::size_t now = std::min(content.size(), kMaxContent);
    if (!client_out_.seal(ContentType::kApplicationData, content.first(now),
                          records.first(kOverhead + now))) {
      return fail("OpenSSL can't seal a record for the client");
    }
    content = content.subspan(now);
    records = records.subspan(kOverhead + now);
  }
  return true;
}

bool Bridge::freshen_client_key() {
  const ErrorMark mark;
  return !(answer_due_ || client_out_.is_worn(suite_)) || tell_client_of_new_key();
}

bool Bridge::tell_client_of_new_key() {
  answer_due_ = false;
  return (give_client(ContentType::kHandshake, key_update(kNotRequested)) &&
          client_out_.advance(hkdf_)) ||
         fail("OpenSSL has no new key for the client");
}

// ---- To another process

const char* Bridge::why_not_park() const {
  if (failed()) return failure_;
  if (!up()) return "it has only just come back";
  if (client_ended_ || server_ended_) return "an alert has been sent";
  if (!client_parser_.empty() || !client_messages_.empty()) return "half a record of the client's";
  if (!server_parser_.empty() || !server_messages_.empty()) return "half a record of mod_ssl's";
  if (!for_server().empty() || !for_client().empty()) return "bytes under way";
  return answer_due_ ? "a KeyUpdate of the client's to be answered" : nullptr;
}

TlsState Bridge::state() const {
  TlsState out = state_;
  out.client = client_in_.direction();
  out.server = client_out_.direction();
  ++out.trips;
  return out;
}

void Bridge::forget() {
  client_in_.wipe();
  client_out_.wipe();
  server_ended_ = true;
  failure_ = "it has been given away";
}

}  // namespace lingerd::tls
