// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/request/read_timeout.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd;

TEST_GROUP(ReadTimeout){void is(const ReadTimeout& timeout, unsigned head, unsigned grace,
                                unsigned rate, unsigned body){LONGS_EQUAL(head, timeout.head);
LONGS_EQUAL(grace, timeout.body_grace);
LONGS_EQUAL(rate, timeout.body_rate);
LONGS_EQUAL(body, timeout.body);
}
}
;

TEST(ReadTimeout, is_what_the_directive_says) {
  is(parse_read_timeout(kReadTimeoutByDefault), 40, 20, 500, 0);
  is(parse_read_timeout("header=10 body=30"), 10, 30, 0, 30);
  is(parse_read_timeout("BODY=5-15,minrate=1000 Header=20,MINRATE=1"), 0, 5, 1000, 15);
  is(parse_read_timeout("header=0 body=0"), 0, 0, 0, 0);
  is(parse_read_timeout("handshake=3 \"header=7\""), 7, 0, 0, 0);
  is(parse_read_timeout(""), 0, 0, 0, 0);
  is(parse_read_timeout("header= body=x nonsense"), 0, 0, 0, 0);
}

TEST(ReadTimeout, of_several_is_the_tightest) {
  ReadTimeout timeout;
  timeout.tighten(parse_read_timeout("body=20,MinRate=500"));
  timeout.tighten(parse_read_timeout("header=9 body=30,MinRate=700"));
  timeout.tighten(parse_read_timeout("header=40"));
  is(timeout, 9, 20, 700, 0);
}
