// SPDX-License-Identifier: Apache-2.0
// Against a server that says what no honest one would; tls_bridge_test has OpenSSL's.
#include "mod_linger_tls/inner/inner_client.h"

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "mod_linger_tls/inner/client_hello.h"
#include "mod_linger_tls/inner/schedule.h"
#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/hkdf.h"
#include "mod_linger_tls/layer/protection.h"
#include "mod_linger_tls/layer/record.h"
#include "mod_linger_tls/layer/secret.h"
#include "mod_linger_tls/layer/suite.h"
#include "t/unit/tls_bytes.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;
using namespace tls_bytes;

namespace {

Buffer operator+(Buffer one, const Buffer& other) {
  one.insert(one.end(), other.begin(), other.end());
  return one;
}

Buffer clear_record(unsigned char type, const Buffer& content) {
  return Buffer{type, 3, 3, static_cast<unsigned char>(content.size() >> 8),
                static_cast<unsigned char>(content.size())} +
         content;
}

Buffer message(unsigned char type, const Buffer& body) {
  return Buffer{type, 0, static_cast<unsigned char>(body.size() >> 8),
                static_cast<unsigned char>(body.size())} +
         body;
}

const Buffer kVersion = hex("00 2b 00 02 03 04");
const Buffer kResumes = hex("00 29 00 02 00 00");
const Buffer kRetryRandom =
    hex("CF 21 AD 74 E5 9A 61 11 BE 1D 8C 02 1E 65 B8 91 C2 A2 11 16 7A BB 8C 5E 07 9E 09 E2 C8 A8 "
        "33 9C");

Buffer server_hello(const Buffer& extensions, const Buffer& random = Buffer(32, 5),
                    const Buffer& behind_random = hex("00 13 01 00")) {
  const Buffer length{static_cast<unsigned char>(extensions.size() >> 8),
                      static_cast<unsigned char>(extensions.size())};
  return message(2, hex("03 03") + random + behind_random + length + extensions);
}

const Buffer kGoodHello = server_hello(kVersion + kResumes);
const Buffer kNoExtensions = message(8, {0, 0});
const Buffer kAlpn =
    message(8, hex("00 0f 00 10 00 0b 00 09 08") + Buffer{'h', 't', 't', 'p', '/', '1', '.', '1'});

}  // namespace

TEST_GROUP(tls_inner_client) {
  Hkdf hkdf{*suite_of(0x1301)};
  Secret key = some_direction(hkdf.suite()).secret;
  const Buffer identity = Buffer(16, 9);
  Buffer to_server;

  // One handshake: what the server does is `play`'s.
  struct Server {
    Hkdf& hkdf;
    InnerClient& client;
    Buffer& to_server;
    Schedule schedule{hkdf};
    Direction client_side{};
    RecordSealer sealer{};
    bool good = true;

    void give(const Buffer& record) { good = good && client.handshake_record(record, to_server); }
    void say_hello(const Buffer& hello = kGoodHello) {
      schedule.said(hello);
      give(clear_record(22, hello));
      Direction own;
      CHECK(schedule.enter_handshake(client_side, own));
      CHECK(sealer.start(hkdf, own));
    }
    void say(const Buffer& whole, unsigned char type = 22) {
      give(record_of(sealer, type, whole));
      schedule.said(whole);
    }
    Buffer finished() {
      Secret verify;
      CHECK(schedule.finished(sealer.direction().secret, verify));
      return message(20, Buffer(verify.get().begin(), verify.get().end()));
    }
  };

  // Why the client has refused it, or "".
  std::string refusal(const std::function<void(Server&)>& play) {
    InnerClient client(hkdf);
    to_server.clear();
    CHECK(client.start({identity, &key, "www.example.org", "http/1.1"}, to_server));
    Server server{hkdf, client, to_server};
    CHECK(server.schedule.begin(key));
    server.schedule.said(ConstBytes(to_server).subspan(kHeaderLength));
    to_server.clear();
    play(server);
    CHECK(server.good == std::string(client.failure()).empty());
    CHECK(client.done() == !to_server.empty());
    return client.failure();
  }
  void accepts(const std::function<void(Server&)>& play) {
    STRCMP_EQUAL("", refusal(play).c_str());
    CHECK(!to_server.empty());
  }
  void refuses(const char* why, const std::function<void(Server&)>& play) {
    STRCMP_EQUAL(why, refusal(play).c_str());
  }
};

TEST(tls_inner_client, shakes_hands) {
  accepts([](Server& server) {
    server.say_hello();
    server.give(clear_record(20, {1}));
    server.say(kNoExtensions);
    server.say(server.finished());
  });
}

TEST(tls_inner_client, answers_with_a_finished_of_its_own) {
  accepts([this](Server& server) {
    server.say_hello();
    server.say(kAlpn);
    server.say(server.finished());
    Secret verify;
    CHECK(server.schedule.finished(server.client_side.secret, verify));
    RecordOpener opener;
    CHECK(opener.start(hkdf, server.client_side));
    Buffer out(to_server.size());
    const RecordOpener::Opened opened = opener.open(to_server, out);
    CHECK(opened.good && opened.type == ContentType::kHandshake);
    out.resize(opened.length);
    CHECK(out == message(20, Buffer(verify.get().begin(), verify.get().end())));
  });
}

TEST(tls_inner_client, takes_messages_in_whatever_records) {
  accepts([](Server& server) {
    server.say_hello();
    const Buffer extensions = kNoExtensions;
    server.schedule.said(extensions);
    Buffer both = extensions + server.finished();
    for (const unsigned char each : both) server.give(record_of(server.sealer, 22, {each}));
  });
  accepts([](Server& server) {
    server.schedule.said(kGoodHello);
    for (const unsigned char each : kGoodHello) server.give(clear_record(22, {each}));
    Direction own;
    CHECK(server.schedule.enter_handshake(server.client_side, own));
    CHECK(server.sealer.start(server.hkdf, own));
    server.schedule.said(kNoExtensions);
    server.give(record_of(server.sealer, 22, kNoExtensions + server.finished()));
  });
}

TEST(tls_inner_client, refuses_a_server_hello_that_does_not_resume) {
  const auto hello = [this](const char* why, const Buffer& hello) {
    refuses(why, [&](Server& server) { server.give(clear_record(22, hello)); });
  };
  hello("mod_ssl doesn't resume", server_hello(kVersion));
  hello("mod_ssl doesn't resume", server_hello(kResumes));
  hello("mod_ssl doesn't resume", server_hello({}));
  hello("mod_ssl doesn't resume", server_hello(kVersion + hex("00 29 00 02 00 01")));
  hello("mod_ssl doesn't resume", server_hello(hex("00 2b 00 02 03 03") + kResumes));
  hello("a HelloRetryRequest", server_hello(kVersion, kRetryRandom));
  const char* kOther = "a ServerHello with what wasn't asked for";
  hello(kOther, server_hello(kVersion + hex("00 33 00 02 00 1d") + kResumes));
  hello(kOther, server_hello(kVersion + kResumes + kResumes));
  hello(kOther, server_hello(kVersion + kVersion + kResumes));
  const char* kBroken = "a ServerHello that can't be read";
  hello(kBroken, server_hello(kVersion + hex("00 29 00 03 00 00 00")));
  hello(kBroken, server_hello(kVersion + hex("00 29 00 01 00")));
  hello(kBroken, server_hello(kVersion + hex("00 29 00 09 00 00")));
  const char* kElse = "a ServerHello to something else";
  hello(kElse, server_hello(kVersion + kResumes, Buffer(32), hex("01 07 13 01 00")));
  hello(kElse, server_hello(kVersion + kResumes, Buffer(32), hex("00 13 02 00")));
  hello(kElse, server_hello(kVersion + kResumes, Buffer(32), hex("00 13 01 01")));
  hello(kElse, message(2, {3, 3}));
  hello(kElse, message(2, {}));
  hello("more than a ServerHello", kGoodHello + Buffer{8});
  hello("a message that doesn't belong to a resumption", kNoExtensions);
}

TEST(tls_inner_client, refuses_a_full_handshake) {
  for (const unsigned char type :
       {11, 13, 15, 4, 24, 1, 2, 5}) {  // Certificate, CertificateRequest, ...
    refuses("a message that doesn't belong to a resumption", [type](Server& server) {
      server.say_hello();
      server.say(kNoExtensions);
      server.say(message(type, Buffer(40)));
    });
  }
  refuses("a message that doesn't belong to a resumption", [](Server& server) {
    server.say_hello();
    server.say(server.finished());
  });
  refuses("a handshake message that is too long", [](Server& server) {
    server.say_hello();
    server.say(kNoExtensions);
    server.say(message(11, Buffer(3'000)));
  });
}

TEST(tls_inner_client, refuses_encrypted_extensions_that_it_has_not_asked_for) {
  const auto extensions = [this](const char* why, const char* bytes) {
    refuses(why, [bytes](Server& server) {
      server.say_hello();
      server.say(message(8, hex(bytes)));
    });
  };
  extensions("EncryptedExtensions with what wasn't asked for", "00 04 00 2a 00 00");
  extensions("EncryptedExtensions with what wasn't asked for", "00 08 00 0a 00 04 00 02 00 1d");
  extensions("another protocol", "00 09 00 10 00 05 00 03 02 68 32");
  extensions("another protocol", "00 06 00 10 00 02 00 00");
  extensions("EncryptedExtensions that can't be read", "00 05 00 00 00 01 00");
  extensions("EncryptedExtensions that can't be read", "00 01 00 00");
  extensions("EncryptedExtensions that can't be read", "");
}

TEST(tls_inner_client, refuses_a_server_without_the_key) {
  refuses("a Finished that is wrong", [](Server& server) {
    server.say_hello();
    server.say(kNoExtensions);
    Buffer finished = server.finished();
    finished.back() ^= 1;
    server.say(finished);
  });
  refuses("a Finished that is wrong", [](Server& server) {
    server.say_hello();
    server.say(kNoExtensions);
    server.say(message(20, {}));
  });
  refuses("a record of the handshake doesn't open", [](Server& server) {
    server.say_hello();
    server.sealer.wipe();
    CHECK(server.sealer.start(server.hkdf, some_direction(server.hkdf.suite(), 77)));
    server.say(kNoExtensions);
  });
  refuses("more than a Finished", [](Server& server) {
    server.say_hello();
    server.say(kNoExtensions);
    server.say(server.finished() + Buffer{4});
  });
}

TEST(tls_inner_client, refuses_what_is_out_of_place) {
  refuses("a ChangeCipherSpec out of place",
          [](Server& server) { server.give(clear_record(20, {1})); });
  refuses("a ChangeCipherSpec out of place", [](Server& server) {
    server.say_hello();
    server.give(clear_record(20, {1}));
    server.give(clear_record(20, {1}));
  });
  refuses("a ChangeCipherSpec out of place", [](Server& server) {
    server.say_hello();
    server.give(clear_record(20, {2}));
  });
  refuses("mod_ssl refuses the ClientHello", [](Server& server) {
    server.give(clear_record(21, {2, 40}));
  });
  refuses("a record before the ServerHello",
          [](Server& server) { server.give(clear_record(23, Buffer(30))); });
  refuses("a handshake message in the clear", [](Server& server) {
    server.say_hello();
    server.give(clear_record(22, kNoExtensions));
  });
  refuses("mod_ssl ends the handshake", [](Server& server) {
    server.say_hello();
    server.say({2, 40}, 21);
  });
  refuses("data before the handshake's end", [](Server& server) {
    server.say_hello();
    server.say({2, 40}, 23);
  });
}

TEST(tls_inner_client, names_that_are_too_long_are_not_said) {
  const std::string name(256, 'n');
  InnerClient client(hkdf);
  CHECK(!client.start({identity, &key, name, ""}, to_server));
  CHECK(!client.start({identity, &key, "", name}, to_server));
  CHECK(to_server.empty());
  const std::string longest(255, 'n');
  CHECK(client.start({identity, &key, longest, longest}, to_server));
}
