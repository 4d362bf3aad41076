// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/keepalive/credentials.h"

#include <CppUTest/TestHarness.h>

using lingerd::binds_connection;

TEST_GROUP(credentials){};

TEST(credentials, of_a_request_bind_nothing) {
  for (const char* header : {"", "Basic dXNlcjpwdw==", "Bearer ntlm", "Digest username=\"ntlm\"",
                             "NTLMv9 x", "Negotiated", " ", ",", ", ,"}) {
    CHECK_FALSE_TEXT(binds_connection(header), header);
  }
}

TEST(credentials, of_a_connection_bind_it) {
  for (const char* header : {"NTLM", "NTLM TlRMTVNTUAAB", "ntlm x", "Negotiate YII=", "NEGOTIATE",
                             "Nego2 x", "Kerberos x", " \tNTLM x"}) {
    CHECK_TEXT(binds_connection(header), header);
  }
}

TEST(credentials, offered_beside_others_bind) {
  CHECK_TRUE(binds_connection("Basic realm=\"x\", NTLM"));
  CHECK_TRUE(binds_connection("Digest realm=\"x\", nonce=\"y\",Negotiate"));
  CHECK_TRUE(binds_connection("Negotiate, Basic realm=\"x\""));
  CHECK_FALSE(binds_connection("Basic realm=\"x\", charset=\"UTF-8\""));
}
