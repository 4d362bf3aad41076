// SPDX-License-Identifier: Apache-2.0
#include "mod_linger_tls/layer/record_parser.h"

#include <algorithm>
#include <cstddef>
#include <optional>
#include <vector>

#include "mod_linger_tls/layer/bytes.h"
#include "mod_linger_tls/layer/record.h"
#include "t/unit/tls_bytes.h"

#include <CppUTest/TestHarness.h>

using namespace lingerd::tls;
using namespace tls_bytes;

namespace {

using Stage = RecordParser::Stage;
using Result = RecordParser::Result;

Buffer record(unsigned char type, std::size_t length, unsigned char filling = 7) {
  Buffer out{type, 3, 3, static_cast<unsigned char>(length >> 8),
             static_cast<unsigned char>(length)};
  out.resize(kHeaderLength + length, filling);
  return out;
}

struct Parsed {
  std::vector<Buffer> records;
  std::optional<Alert> alert;
};

// In pieces of `piece` bytes.
Parsed parse(RecordParser& parser, const Buffer& bytes, std::size_t piece) {
  Parsed out;
  for (std::size_t at = 0; at < bytes.size() && !out.alert; at += piece) {
    ConstBytes now = ConstBytes(bytes).subspan(at, std::min(piece, bytes.size() - at));
    while (!out.alert) {
      const RecordParser::Step step = parser.next(now);
      now = now.subspan(step.used);
      if (step.result == Result::kNeedsMore) break;
      if (step.result == Result::kBad) out.alert = step.alert;
      if (step.result == Result::kRecord) {
        out.records.emplace_back(step.record.begin(), step.record.end());
      }
    }
    if (!out.alert) CHECK(now.empty());
  }
  return out;
}

constexpr std::size_t kPieces[] = {1, 2, 3, 4, 5, 6, 7, 20, 1'000, 100'000};

}  // namespace

TEST_GROUP(tls_record_parser){};

TEST(tls_record_parser, finds_the_same_records_however_they_come) {
  const std::vector<Buffer> records{record(23, 17), record(23, kMaxCiphertext, 1),
                                    record(23, 100, 2), record(23, 18, 3)};
  Buffer all;
  for (const Buffer& each : records) all.insert(all.end(), each.begin(), each.end());
  for (const std::size_t piece : kPieces) {
    RecordParser parser(Stage::kEncrypted);
    const Parsed parsed = parse(parser, all, piece);
    CHECK(parsed.records == records);
    CHECK(!parsed.alert);
    CHECK(parser.empty());
  }
}

TEST(tls_record_parser, knows_that_half_a_record_is_there) {
  const Buffer whole = record(23, 30);
  for (std::size_t length = 1; length < whole.size(); ++length) {
    RecordParser parser(Stage::kEncrypted);
    CHECK(parser.empty());
    const Buffer part(whole.begin(), whole.begin() + static_cast<long>(length));
    CHECK(parse(parser, part, 100).records.empty());
    CHECK(!parser.empty());
    const Buffer rest(whole.begin() + static_cast<long>(length), whole.end());
    CHECK(parse(parser, rest, 100).records == std::vector<Buffer>{whole});
    CHECK(parser.empty());
  }
}

TEST(tls_record_parser, refuses_by_the_header_what_is_no_record) {
  const struct {
    const char* header;
    Alert alert;
  } kBad[] = {
      {"14 03 03 00 01", Alert::kUnexpectedMessage},  // ChangeCipherSpec, at this time
      {"15 03 03 00 02", Alert::kUnexpectedMessage},  // in the clear
      {"16 03 03 00 20", Alert::kUnexpectedMessage},
      {"18 03 03 00 20", Alert::kUnexpectedMessage},  // a heartbeat
      {"00 03 03 00 20", Alert::kUnexpectedMessage},
      {"ff 03 03 00 20", Alert::kUnexpectedMessage},
      {"17 03 01 00 20", Alert::kDecodeError},
      {"17 03 04 00 20", Alert::kDecodeError},
      {"17 00 03 00 20", Alert::kDecodeError},
      {"17 fe fd 00 20", Alert::kDecodeError},  // DTLS
      {"80 2e 01 03 03", Alert::kDecodeError},  // SSL 2
      {"47 45 54 20 2f", Alert::kDecodeError},  // GET /
      {"17 03 03 00 00", Alert::kBadRecordMac},
      {"17 03 03 00 10", Alert::kBadRecordMac},  // a tag, and no type
      {"17 03 03 41 01", Alert::kRecordOverflow},
      {"17 03 03 ff ff", Alert::kRecordOverflow},
  };
  for (const auto& each : kBad) {
    for (const std::size_t piece : {1, 5}) {
      RecordParser parser(Stage::kEncrypted);
      const Parsed parsed = parse(parser, hex(each.header), piece);
      CHECK(parsed.records.empty());
      CHECK_TEXT(parsed.alert == each.alert, each.header);
    }
  }
}

TEST(tls_record_parser, what_is_bad_stays_so) {
  RecordParser parser(Stage::kEncrypted);
  Buffer bytes = record(23, 20);
  const Buffer bad = hex("16 03 03 00 20");
  bytes.insert(bytes.end(), bad.begin(), bad.end());
  LONGS_EQUAL(1, parse(parser, bytes, 100).records.size());
  const Parsed later = parse(parser, record(23, 20), 100);
  CHECK(later.records.empty());
  CHECK(later.alert == Alert::kUnexpectedMessage);
}

TEST(tls_record_parser, a_handshake_has_records_in_the_clear) {
  RecordParser parser(Stage::kHandshake);
  for (const unsigned char type : {20, 21, 22, 23}) {
    LONGS_EQUAL(1, parse(parser, record(type, 20), 7).records.size());
  }
  LONGS_EQUAL(1, parse(parser, record(20, 1), 7).records.size());
  parser.set_stage(Stage::kEncrypted);
  CHECK(parse(parser, record(22, 20), 7).alert == Alert::kUnexpectedMessage);
  for (const Buffer& bad : {record(22, 0), record(19, 20), record(24, 20)}) {
    RecordParser fresh(Stage::kHandshake);
    CHECK(parse(fresh, bad, 100).alert == Alert::kUnexpectedMessage);
  }
  RecordParser fresh(Stage::kHandshake);
  CHECK(parse(fresh, record(22, kMaxContent + 1), 100).alert == Alert::kRecordOverflow);
}
