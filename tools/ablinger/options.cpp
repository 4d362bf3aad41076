// SPDX-License-Identifier: Apache-2.0
#include "tools/ablinger/options.h"

#include <getopt.h>

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <ios>
#include <iostream>
#include <iterator>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

namespace ablinger {
namespace {

constexpr const char* kAbout =
    "ablinger: HTTP load from clients that close late, trickle, upload, read slowly or reset.\n"
    "Checks the status and the length of every response, and its body, byte for byte, with "
    "--body.\n"
    "\nablinger OPTION... http[s]://HOST[:PORT][/PATH]\n\n";

// What is wrong with the arguments.
struct Mistake : std::runtime_error {
  using std::runtime_error::runtime_error;
};

std::string quoted(std::string_view text) {
  return "\"" + std::string(text) + "\"";
}

template <typename Number>
Number number(std::string_view text, Number least = 0,
              Number most = std::numeric_limits<Number>::max()) {
  Number value{};
  const char* end = text.data() + text.size();
  const auto [read_to, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{} || read_to != end || value < least || value > most) {
    std::string words = quoted(text) + " is not a number, or not in its range";
    if constexpr (std::is_integral_v<Number>) {
      words += ": " + std::to_string(least) + "-" + std::to_string(most);
    }
    throw Mistake(words);
  }
  return value;
}

// Takes from the text what is before the mark, if that is in it.
std::string_view split(std::string_view& text, std::string_view mark) {
  const std::size_t at = text.find(mark);
  if (at == std::string_view::npos) return {};
  const std::string_view before = text.substr(0, at);
  text.remove_prefix(at + mark.size());
  return before;
}

Url parse_url(std::string_view text) {
  const Mistake mistake(quoted(text) + " is not http[s]://HOST[:PORT][/PATH]");
  Url url;
  const std::string_view scheme = split(text, "://");
  if (scheme != "http" && scheme != "https") throw mistake;
  url.tls = scheme == "https";
  const std::size_t slash = std::min(text.find('/'), text.size());
  std::string_view host = text.substr(0, slash);
  url.path = slash < text.size() ? text.substr(slash) : "/";
  const bool bracketed = host.starts_with('[');
  if (bracketed) host.remove_prefix(1);
  const std::size_t end = std::min(host.find(bracketed ? ']' : ':'), host.size());
  if (end == 0 || (bracketed && end == host.size())) throw mistake;
  url.host = host.substr(0, end);
  host.remove_prefix(end + (bracketed ? 1 : 0));
  if (host.empty()) {
    url.port = url.tls ? "443" : "80";
    return url;
  }
  if (!host.starts_with(':')) throw mistake;
  url.port = std::to_string(number<std::uint16_t>(host.substr(1)));
  return url;
}

LateClose parse_late(std::string_view text) {
  LateClose late;
  if (text.starts_with("exp:")) {
    late.kind = LateClose::Kind::kExponential;
    late.low_ms = number<double>(text.substr(4));
    return late;
  }
  const std::string_view low = split(text, "-");
  if (low.empty()) {
    late.low_ms = number<double>(text);
    return late;
  }
  late.kind = LateClose::Kind::kUniform;
  late.low_ms = number<double>(low);
  late.high_ms = number<double>(text);
  if (late.high_ms < late.low_ms) throw Mistake("the second is the smaller one");
  return late;
}

std::int64_t to_ns(double value, std::int64_t unit) {
  return static_cast<std::int64_t>(value * static_cast<double>(unit));
}

template <auto member, auto... range>
void set(Options& o, const char* text) {
  using Number = std::remove_reference_t<decltype(o.*member)>;
  o.*member = number<Number>(text, static_cast<Number>(range)...);
}
template <auto member, std::int64_t unit>
void set_time(Options& o, const char* text) {
  o.*member = to_ns(number<double>(text, 0, 1e9), unit);
}
template <auto member>
void set_late(Options& o, const char* text) {
  o.*member = parse_late(text);
}
template <auto member, bool value = true>
void turn(Options& o, const char*) {
  o.*member = value;
}
void set_json(Options& o, const char* text) {
  o.json = text;
}
void set_body(Options& o, const char* text) {
  std::ifstream file(text, std::ios::binary);
  if (!file) throw Mistake(quoted(text) + " can't be read");
  o.body = std::string(std::istreambuf_iterator<char>(file), {});
}

struct Choice {
  char letter;  // 0: none
  const char* name;
  const char* value;  // null: it takes none
  const char* help;
  void (*set)(Options&, const char*);
};

constexpr Choice kChoices[] = {
    {'c', "concurrency", "N", "clients with a request under way (50)",
     set<&Options::concurrency, 1, 100'000>},
    {0, "threads", "N", "threads that share the clients (1)", set<&Options::threads, 1, 64>},
    {'n', "requests", "N", "stop after so many, and their late closes", set<&Options::requests>},
    {'d', "duration", "S", "stop after so many seconds", set_time<&Options::duration, kSecond>},
    {0, "warmup", "S", "seconds before the counting starts", set_time<&Options::warmup, kSecond>},
    {0, "rate", "N", "at most so many requests a second", set<&Options::rate>},
    {0, "timeout", "S", "of a request, in seconds (30)", set_time<&Options::timeout, kSecond>},
    {0, "sources", "N", "source addresses, from 127.0.0.1, for a loopback server (8)",
     set<&Options::sources, 0, 250>},
    {0, "json", "FILE", "write the result there as JSON, - for stdout", set_json},
    {'l', "close-late", "MS",
     "from the response's end to the close: MS, MS-MS (uniform), exp:MS (its mean)",
     set_late<&Options::late>},
    {0, "detach", nullptr, "a client's next request doesn't wait for its late close",
     turn<&Options::detach>},
    {0, "max-late", "N", "late sockets open at once (nofile's limit)", set<&Options::max_late>},
    {0, "late-tables", "N",
     "so many descriptor tables for the late sockets of --detach, each with nofile's limit",
     set<&Options::late_tables, 0, 16>},
    {0, "until-fin", nullptr, "read to the server's FIN, not to the last byte only",
     turn<&Options::until_fin>},
    {0, "rst", nullptr, "close with RST", turn<&Options::reset>},
    {0, "upload", "BYTES", "of request body (POST)", set<&Options::upload>},
    {0, "late-bytes", "BYTES", "that follow the request, as fast as they go",
     set<&Options::late_bytes>},
    {0, "trickle", "BYTES", "a second after the response", set<&Options::trickle>},
    {0, "read-rate", "BYTES", "a second that a client reads", set<&Options::read_rate>},
    {0, "rcvbuf", "BYTES", "SO_RCVBUF of a client", set<&Options::receive_buffer>},
    {0, "stall", "MS", "before a client reads", set_time<&Options::stall, kMillisecond>},
    {0, "keepalive", "N", "requests per connection (1)", set<&Options::keepalive, 1, 1'000'000>},
    {0, "think", "MS", "between them, as --close-late", set_late<&Options::think>},
    {0, "no-close-notify", nullptr, "TLS: close without close_notify",
     turn<&Options::close_notify, false>},
    {0, "resume", nullptr, "TLS: resume a session from before, each once, as browsers do",
     turn<&Options::resume>},
    {0, "status", "CODE", "of a good response (200)", set<&Options::status>},
    {0, "body", "FILE", "that a good response's body equals", set_body},
    {0, "length", "BYTES", "of a good response's body (what its head says)", set<&Options::length>},
};

void print_help() {
  std::cout << kAbout;
  for (const Choice& choice : kChoices) {
    std::string flag = choice.letter != 0 ? std::string{'-', choice.letter, ','} : "   ";
    flag += std::string(" --") + choice.name;
    if (choice.value != nullptr) flag += std::string(" ") + choice.value;
    flag.resize(26, ' ');
    std::cout << "  " << flag << choice.help << '\n';
  }
}

// Late sockets that nobody has to do anything with but close them.
bool can_put_aside(const Options& o) {
  return o.detach && !o.late.none() && !o.url.tls && !o.reset && o.upload == 0 &&
         o.late_bytes == 0 && o.trickle == 0;
}

void take(Options& o, const Choice& choice, const char* value) try {
  choice.set(o, value);
} catch (const Mistake& mistake) {
  throw Mistake(std::string("--") + choice.name + ": " + mistake.what());
}

// False: it is help that is asked for.
bool parse(Options& o, int argc, char** argv) {
  constexpr int kFirst = 256;  // beyond every letter
  std::string letters = "h";
  std::vector<option> table;
  for (const Choice& choice : kChoices) {
    const int code = kFirst + static_cast<int>(table.size());
    const int argument = choice.value != nullptr ? required_argument : no_argument;
    table.push_back({choice.name, argument, nullptr, code});
    if (choice.letter != 0) letters += {choice.letter, ':'};
  }
  table.push_back({"help", no_argument, nullptr, 'h'});
  table.push_back({});
  for (int code = 0;
       (code = getopt_long(argc, argv, letters.c_str(), table.data(), nullptr)) != -1;) {
    if (code == 'h') return false;
    if (code == '?') throw Mistake("--help lists the options");
    for (std::size_t i = 0; i < std::size(kChoices); ++i) {
      const bool meant = code == kFirst + static_cast<int>(i) || code == kChoices[i].letter;
      if (meant) take(o, kChoices[i], optarg);
    }
  }
  if (argc - optind != 1) throw Mistake("one URL is needed");
  o.url = parse_url(argv[optind]);
  if (o.requests == 0 && o.duration <= 0) throw Mistake("--requests or --duration is needed");
  if (o.late_tables > 0 && !can_put_aside(o)) {
    throw Mistake("--late-tables: is for plain --detach --close-late clients that send no more");
  }
  return true;
}

}  // namespace

std::int64_t LateClose::sample(std::minstd_rand& random) const {
  switch (kind) {
    case Kind::kUniform:
      return to_ns(std::uniform_real_distribution<>(low_ms, high_ms)(random), kMillisecond);
    case Kind::kExponential:
      return to_ns(std::exponential_distribution<>(1.0 / low_ms)(random), kMillisecond);
    case Kind::kFixed: break;
  }
  return to_ns(low_ms, kMillisecond);
}

Options parse_options(int argc, char** argv) {
  Options o;
  try {
    if (parse(o, argc, argv)) return o;
  } catch (const Mistake& mistake) {
    std::cerr << "ablinger: " << mistake.what() << '\n';
    std::exit(2);
  }
  print_help();
  std::exit(0);
}

}  // namespace ablinger
