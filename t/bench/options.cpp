// SPDX-License-Identifier: Apache-2.0
#include "t/bench/options.h"

#include <CLI/CLI.hpp>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <regex>

namespace ablinger {
namespace {

constexpr const char* kAbout =
    "ablinger: HTTP load from clients that close late, trickle, upload, read slowly or reset.\n"
    "Checks the status and the length of every response, and its body, byte for byte, with --body.";

Url parse_url(const std::string& text) {
  static const std::regex form(R"((https?)://([^/:\[\]]+|\[[0-9a-fA-F:]+\])(?::(\d+))?(/.*)?)");
  std::smatch m;
  if (!std::regex_match(text, m, form)) {
    throw CLI::ValidationError("URL", "\"" + text + "\" is not http[s]://HOST[:PORT][/PATH]");
  }
  Url url;
  url.tls = m[1] == "https";
  url.host = m[2];
  if (url.host.front() == '[') url.host = url.host.substr(1, url.host.size() - 2);
  url.port = m[3].matched ? m[3].str() : (url.tls ? "443" : "80");
  url.path = m[4].matched ? m[4].str() : "/";
  return url;
}

LateClose parse_late(const std::string& text, const char* option) {
  static const std::regex form(R"((exp:)?(\d+(?:\.\d+)?)(?:-(\d+(?:\.\d+)?))?)");
  std::smatch m;
  if (!std::regex_match(text, m, form) || (m[1].matched && m[3].matched)) {
    throw CLI::ValidationError(option, "\"" + text + "\" is not MS, MS-MS or exp:MS");
  }
  LateClose late;
  late.low_ms = std::stod(m[2]);
  if (m[1].matched) late.kind = LateClose::Kind::kExponential;
  if (m[3].matched) {
    late.kind = LateClose::Kind::kUniform;
    late.high_ms = std::stod(m[3]);
    if (late.high_ms < late.low_ms) {
      throw CLI::ValidationError(option, "\"" + text + "\": the second is the smaller one");
    }
  }
  return late;
}

std::string contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::int64_t to_ns(double value, std::int64_t unit) {
  return static_cast<std::int64_t>(value * static_cast<double>(unit));
}

// Values in the units that people type; options in those of the code.
struct Typed {
  std::string url;
  std::string body_file;
  std::string late = "0";
  double duration_s = 0;
  double warmup_s = 0;
  double timeout_s = 30;
  double stall_ms = 0;
  std::string think = "0";
};

void add_load_options(CLI::App& app, Options& o, Typed& typed) {
  app.add_option("URL", typed.url, "http[s]://HOST[:PORT][/PATH]")->required();
  app.add_option("-c,--concurrency", o.concurrency, "clients with a request under way")
      ->check(CLI::Range(1U, 100'000U))
      ->capture_default_str();
  app.add_option("--threads", o.threads, "threads that share the clients")
      ->check(CLI::Range(1U, 64U))
      ->capture_default_str();
  app.add_option("-n,--requests", o.requests, "stop after so many, and their late closes");
  app.add_option("-d,--duration", typed.duration_s, "stop after so many seconds");
  app.add_option("--warmup", typed.warmup_s, "seconds before the counting starts");
  app.add_option("--rate", o.rate, "at most so many requests a second");
  app.add_option("--timeout", typed.timeout_s, "of a request, in seconds")->capture_default_str();
  app.add_option("--sources", o.sources, "source addresses, from 127.0.0.1, for a loopback server")
      ->check(CLI::Range(0U, 250U))
      ->capture_default_str();
  app.add_option("--json", o.json, "write the result to this file as JSON, - for stdout");
}

void add_client_options(CLI::App& app, Options& o, Typed& typed) {
  app.add_option("-l,--close-late", typed.late,
                 "ms from the response's end to the client's close: MS, MS-MS (uniform) or exp:MS "
                 "(exponential, by its mean)")
      ->capture_default_str();
  app.add_flag("--detach", o.detach, "a client's next request doesn't wait for its late close");
  app.add_option("--max-late", o.max_late, "late sockets open at once (default: nofile's limit)");
  app.add_option("--late-tables", o.late_tables,
                 "keep the late sockets of --detach in so many descriptor tables besides our own: "
                 "each has room for nofile's limit")
      ->check(CLI::Range(0U, 16U));
  app.add_flag("--until-fin", o.until_fin, "read to the server's FIN, not to the last byte only");
  app.add_flag("--rst", o.reset, "close with RST");
  app.add_option("--upload", o.upload, "bytes of request body (POST)");
  app.add_option("--late-bytes", o.late_bytes, "bytes that follow the request, as fast as they go");
  app.add_option("--trickle", o.trickle, "bytes a second after the response");
  app.add_option("--read-rate", o.read_rate, "bytes a second that a client reads");
  app.add_option("--rcvbuf", o.receive_buffer, "SO_RCVBUF of a client");
  app.add_option("--stall", typed.stall_ms, "ms before a client reads");
  app.add_option("--keepalive", o.keepalive, "requests per connection")
      ->check(CLI::Range(1U, 1'000'000U))
      ->capture_default_str();
  app.add_option("--think", typed.think, "ms between them, as --close-late");
  app.add_flag("!--no-close-notify", o.close_notify, "TLS: close without close_notify");
  app.add_option("--status", o.status, "of a good response")->capture_default_str();
  app.add_option("--body", typed.body_file, "file that a good response's body equals")
      ->check(CLI::ExistingFile);
  app.add_option("--length", o.length, "of a good response's body (default: what its head says)");
}

// Late sockets that nobody has to do anything with but close them.
bool can_put_aside(const Options& o) {
  return o.detach && !o.late.none() && !o.url.tls && !o.reset && o.upload == 0 &&
         o.late_bytes == 0 && o.trickle == 0;
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
  Typed typed;
  CLI::App app(kAbout, "ablinger");
  add_load_options(app, o, typed);
  add_client_options(app, o, typed);
  try {
    app.parse(argc, argv);
    o.url = parse_url(typed.url);
    o.late = parse_late(typed.late, "--close-late");
    o.think = parse_late(typed.think, "--think");
    if (o.requests == 0 && typed.duration_s <= 0) {
      throw CLI::RequiredError("--requests or --duration");
    }
    if (o.late_tables > 0 && !can_put_aside(o)) {
      throw CLI::ValidationError("--late-tables",
                                 "is for plain --detach --close-late clients that send no more");
    }
  } catch (const CLI::ParseError& e) {
    const int code = app.exit(e);
    std::exit(code == 0 ? 0 : 2);
  }
  if (!typed.body_file.empty()) o.body = contents(typed.body_file);
  o.duration = to_ns(typed.duration_s, kSecond);
  o.warmup = to_ns(typed.warmup_s, kSecond);
  o.timeout = to_ns(typed.timeout_s, kSecond);
  o.stall = to_ns(typed.stall_ms, kMillisecond);
  return o;
}

}  // namespace ablinger
