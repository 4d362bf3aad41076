// SPDX-License-Identifier: Apache-2.0
// Writes what the fuzzers start from into DIRECTORY/<target>: what the encoders make, so that seeds
// never lag behind a format, and the same cut off or of another version.
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <ios>
#include <span>
#include <string>
#include <vector>

#include "contract/counters.h"
#include "contract/record.h"
#include "contract/stats_page.h"
#include "lingerd/core/carry.h"
#include "lingerd/core/drain.h"

namespace {

using namespace lingerd;

class Seeds {
 public:
  explicit Seeds(const std::filesystem::path& directory) : directory_(directory) {
    std::filesystem::create_directories(directory);
  }

  void add(std::span<const std::byte> bytes) {
    std::ofstream file(directory_ / std::to_string(count_++), std::ios::binary);
    file.write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
  }
  template <typename T>
  void add_object(const T& object) {
    add(std::as_bytes(std::span(&object, 1)));
  }
  // And what is nearly that.
  void add_with_variants(std::span<const std::byte> bytes, std::size_t version_at) {
    add(bytes);
    add(bytes.first(bytes.size() / 2));
    std::vector<std::byte> changed(bytes.begin(), bytes.end());
    changed.at(version_at) ^= std::byte{3};
    add(changed);
    changed.assign(bytes.begin(), bytes.end());
    changed.push_back(std::byte{0});
    add(changed);
  }

 private:
  std::filesystem::path directory_;
  int count_ = 0;
};

// As record_fuzz.cpp reads them: a mood, a length, a message; again and again.
void conversations(Seeds& seeds) {
  std::vector<std::byte> conversation;
  Handoff handoff;
  for (std::uint32_t i = 0; i < 24; ++i) {
    handoff.idle_ms = 1 + i % 5 * 1'000;
    handoff.cap_ms = 1 + i % 3 * 30'000;
    handoff.handed_off_ns = 1'000'000'000'000 - i * 1'000'000;
    if (i == 21) {
      handoff.kind = RecordKind::kIdle;
      handoff.stall_ms = 5'000;
    } else if (i % 4 == 3) {
      handoff.kind = RecordKind::kDeliver;
      handoff.content_length = 1 + i * 1'000;
      handoff.stall_ms = 1 + i * 100;
    } else {
      handoff.kind = i == 22 ? RecordKind::kBegin : RecordKind::kLinger;
    }
    const Record next = encode(handoff);
    conversation.push_back(static_cast<std::byte>(i * 5));
    conversation.push_back(static_cast<std::byte>(sizeof next));
    const auto message = std::as_bytes(std::span(&next, 1));
    conversation.insert(conversation.end(), message.begin(), message.end());
    seeds.add(conversation);
  }
}

void records(const std::filesystem::path& directory) {
  Seeds seeds(directory);
  Handoff handoff;
  handoff.idle_ms = 5'000;
  handoff.cap_ms = 30'000;
  handoff.handed_off_ns = 1'000'000'000;
  const Record record = encode(handoff);
  seeds.add_with_variants(std::as_bytes(std::span(&record, 1)), offsetof(Record, version));
  handoff.idle_ms = kMaxDurationMs + 1;
  seeds.add_object(encode(handoff));
  conversations(seeds);
  for (const Verdict verdict : {Verdict::kWelcome, Verdict::kDenied, Verdict::kFull}) {
    Greeting greeting;
    greeting.verdict = verdict;
    seeds.add_object(greeting);
  }
  for (const Acceptance acceptance :
       {Acceptance::kAccepted, Acceptance::kNoRoom, Acceptance::kUnfit, Acceptance::kDenied}) {
    seeds.add_object(Answer{.acceptance = acceptance, .ticket = 7});
  }
}

// As parked_fuzz.cpp reads them: the same conversations, of idle connections.
void idle_connections(const std::filesystem::path& directory) {
  Seeds seeds(directory);
  const ReturnRecord back = encode(Return{7, 5'000, 1'000'000});
  seeds.add_with_variants(std::as_bytes(std::span(&back, 1)), offsetof(ReturnRecord, version));
  std::vector<std::byte> conversation;
  for (std::uint32_t i = 0; i < 24; ++i) {
    Handoff handoff;
    handoff.kind = i % 2 == 0 ? RecordKind::kIdle : RecordKind::kRequest;
    const auto part = static_cast<RequestPart>(1 + i / 2 % 3);
    handoff.awaited = {part, part == RequestPart::kHead ? 0U : 40U, i / 2 % 3 == 0 ? 0U : 500U, 44};
    handoff.idle_ms = handoff.cap_ms = 30'000;
    handoff.stall_ms = 1 + i % 5 * 1'000;
    handoff.keepalives = i;
    handoff.handed_off_ns = 1'000'000'000'000 - i * 1'000'000;
    const Record next = encode(handoff);
    conversation.push_back(static_cast<std::byte>(i * 7));
    conversation.push_back(static_cast<std::byte>(i % 3 == 2 ? 0 : sizeof next));
    if (i % 3 != 2) {
      const auto message = std::as_bytes(std::span(&next, 1));
      conversation.insert(conversation.end(), message.begin(), message.end());
    }
    seeds.add(conversation);
  }
  for (const std::size_t parked : {1, 3, 20}) {
    CarriedState state;
    state.addresses = 2;
    state.counters[DaemonCounter::kParked] = state.counters[DaemonCounter::kParkedTotal] = parked;
    for (std::size_t i = 0; i < parked; ++i) {
      CarriedParking each;
      each.stay.arrived = 999'000 + i;
      each.stay.keepalive_ms = 5'000;
      each.deadline_ms = i % 3 == 0 ? 0 : 1'001'000 + i;
      each.stay.returning_since = i % 3 == 0 ? 999'500 : 0;
      each.stay.idle_ms = each.stay.cap_ms = 30'000;
      each.address = i % 2;
      state.parked.push_back(each);
    }
    seeds.add_with_variants(encode(state), sizeof(std::uint64_t));
  }
}

// As request_fuzz.cpp reads them: where it is cut, how much isn't seen, and the bytes.
void requests(const std::filesystem::path& directory) {
  Seeds seeds(directory);
  for (const std::string request :
       {"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "\r\nPOST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.0\nTransfer-Encoding: chunked\n\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n",
        "5\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\n\r\n", "header=20-40,MinRate=500 body=20",
        "POST / HTTP/1.1\r\nExpect: 100-continue\r\nUpgrade: a\r\nContent-Length: 1\r\n\r\n"}) {
    for (std::size_t cut = 0; cut <= request.size(); cut += 7) {
      const std::string seed = {static_cast<char>(cut >> 8), static_cast<char>(cut), '\0'};
      const std::string all = seed + request;
      seeds.add(std::as_bytes(std::span(all)));
    }
  }
}

void carried_states(const std::filesystem::path& directory) {
  Seeds seeds(directory);
  constexpr std::uint64_t kNowMs = 1'000'000'000;  // as in carry_fuzz.cpp
  for (const std::size_t sockets : {0, 1, 5, 40}) {
    CarriedState state;
    state.started_ns = 1;
    state.counters[DaemonCounter::kTotal] = state.counters[DaemonCounter::kQueue] = sockets;
    for (std::size_t i = 0; i < sockets; ++i) {
      CarriedSocket socket;
      const std::uint32_t idle_ms = i % 2 == 0 ? 5'000 : 1'250;
      socket.linger.started = kNowMs - i;
      socket.linger.patience = {.idle_ms = idle_ms,
                                .unsent = i % 2 == 0 ? 0U : 70'000U,
                                .quiet_looks = static_cast<std::uint8_t>(i % 4)};
      socket.linger.rescued = i % 3 == 0 ? 1 : 0;
      socket.cap = {.deadline = socket.linger.started + 30'000, .duration_ms = 30'000};
      socket.idle = {.deadline = kNowMs + 100 * i + 5'000, .duration_ms = idle_ms};
      if (i % 3 == 1) {
        socket.delivery = {.content = {.left = 1'000 * i, .memory = 4'096},
                           .idle_ms = 5'000,
                           .cap_ms = 30'000,
                           .window_left = 1'001 * i,
                           .patience = {.idle_ms = idle_ms, .fin = kNoFinYet}};
      }
      state.sockets.push_back(socket);
    }
    seeds.add_with_variants(encode(state), sizeof(std::uint64_t));
  }
}

// As tls_fuzz.cpp reads them: first what it is, then how, a record's type, a length, content.
void tls_conversations(const std::filesystem::path& directory) {
  Seeds seeds(directory);
  const auto add = [&](const std::vector<int>& numbers) {
    std::vector<std::byte> bytes;
    for (const int each : numbers) bytes.push_back(static_cast<std::byte>(each));
    seeds.add(bytes);
  };
  add({2, 0, 23, 3, 'G', 'E', 'T', 200, 0, 2, 'o', 'k'});
  add({2, 7, 23, 3, 'G', 'E', 'T', 0, 23, 0, 200, 0, 2, 'o', 'k'});
  add({2, 0, 22, 5, 24, 0, 0, 1, 1, 0, 23, 1, 'G', 200, 0, 2, 'o', 'k'});
  add({2, 0, 22, 5, 24, 0, 0, 1, 0, 3, 23, 1, 'G', 200, 0, 2, 'o', 'k'});
  add({2, 0, 22, 2, 24, 0, 0, 22, 3, 0, 1, 1});
  add({2, 0, 21, 2, 1, 90, 0, 21, 2, 1, 0, 200, 0, 2, 'o', 'k'});
  add({2, 0, 21, 2, 2, 40, 0, 23, 1, 'G'});
  add({2, 0, 22, 4, 11, 0, 0, 0});
  add({2, 128, 0, 6, 20, 3, 3, 0, 1, 1});
  add({2, 131, 0, 10, 23, 3, 3, 0, 17, 0, 0, 0, 0, 0});
  add({1, 22, 3, 3, 0, 4, 2, 0, 0, 0});
  add({1, 21, 3, 3, 0, 2, 2, 40});
  add({1, 20, 3, 3, 0, 1, 1});
  std::vector<int> state{0, 0x13, 1, 0, 0, 0, 1, 1};
  for (int i = 0; i < 2 * (8 + 32); ++i) state.push_back(i % 40 < 7 ? 0 : i);
  state.insert(state.end(), {1, 'n', 1, 'a', 0, 2, 0x30, 0});
  add(state);
}

void stats_pages(const std::filesystem::path& directory) {
  Seeds seeds(directory);
  StatsPage page;
  StatsWriter writer(page, 1'000'000'000, 1234);
  seeds.add_object(page);
  DaemonCounters counters;
  for (std::uint64_t i = 0; i < 200; ++i) {
    counters[DaemonCounter::kQueue] = i % 17;
    counters[DaemonCounter::kTotal] = 100 * i;
    counters[DaemonCounter::kClosedByClient] = 100 * i - i % 17;
    writer.publish({(600 + 2 * i) * 1'000'000'000, i % 5, &counters});
  }
  seeds.add_with_variants(std::as_bytes(std::span(&page, 1)), offsetof(StatsPage, version));
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fputs("usage: make_seeds DIRECTORY\n", stderr);
    return 2;
  }
  const std::filesystem::path directory = argv[1];
  records(directory / "record_fuzz");
  carried_states(directory / "carry_fuzz");
  idle_connections(directory / "parked_fuzz");
  requests(directory / "request_fuzz");
  stats_pages(directory / "stats_page_fuzz");
  tls_conversations(directory / "tls_fuzz");
  std::filesystem::create_directories(directory / "config_fuzz");
  return 0;
}
