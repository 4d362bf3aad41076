// SPDX-License-Identifier: Apache-2.0
#include "lingerctl/terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace lingerd {
namespace {

volatile std::sig_atomic_t g_end = 0;
volatile std::sig_atomic_t g_suspend = 0;

void on_end(int) {
  g_end = 1;
}
void on_suspend(int) {
  g_suspend = 1;
}
void on_other(int) {}  // only to interrupt ppoll: resized, or back from the background

constexpr int kEnding[] = {SIGINT, SIGTERM, SIGHUP};
constexpr int kOther[] = {SIGWINCH, SIGCONT};

// Blocked except inside ppoll, so that none is missed between a look at g_end and the wait.
void arrange_signals() {
  struct sigaction action {};
  sigset_t blocked;
  sigemptyset(&blocked);
  for (const int signal : kEnding) {
    action.sa_handler = on_end;
    sigaction(signal, &action, nullptr);
    sigaddset(&blocked, signal);
  }
  action.sa_handler = on_suspend;
  sigaction(SIGTSTP, &action, nullptr);
  sigaddset(&blocked, SIGTSTP);
  for (const int signal : kOther) {
    action.sa_handler = on_other;
    sigaction(signal, &action, nullptr);
  }
  sigprocmask(SIG_BLOCK, &blocked, nullptr);
}

bool terminal_moves() {
  const char* term = std::getenv("TERM");
  return term != nullptr && *term != '\0' && std::string_view(term) != "dumb";
}

void print(std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

// As many lines as fit, so that the screen doesn't scroll under the cursor.
std::size_t lines_that_fit() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row < 2) return 1000;
  return size.ws_row - 1U;
}

}  // namespace

Terminal::Terminal() : moves_(terminal_moves()) {
  has_keys_ = isatty(STDIN_FILENO) && tcgetattr(STDIN_FILENO, &before_) == 0;
  arrange_signals();
  take_keys();
}

Terminal::~Terminal() {
  give_back();
}

void Terminal::give_back() {
  if (has_keys_) tcsetattr(STDIN_FILENO, TCSADRAIN, &before_);
  if (drawn_ && moves_) print("\x1b[?7h\x1b[?25h");
  drawn_ = false;
}

// Done again before each wait: a shell that suspends and resumes a job sets its terminal again.
void Terminal::take_keys() {
  if (!has_keys_) return;
  termios keys = before_;
  keys.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  keys.c_cc[VMIN] = 0;
  keys.c_cc[VTIME] = 0;
  tcsetattr(STDIN_FILENO, TCSADRAIN, &keys);
}

void Terminal::draw(const std::string& frame) {
  if (!moves_) {
    print(frame + "\n");
    drawn_ = true;
    return;
  }
  // No wrapping, no cursor; the screen is cleared once and each line's rest after it.
  std::string out = drawn_ ? "\x1b[H" : "\x1b[?7l\x1b[?25l\x1b[2J\x1b[H";
  std::size_t room = lines_that_fit();
  for (std::size_t at = 0; at < frame.size() && room != 0; --room) {
    const std::size_t end = frame.find('\n', at);
    out.append(frame, at, end - at).append("\x1b[K\r\n");
    if (end == std::string::npos) break;
    at = end + 1;
  }
  print(out + "\x1b[J");
  drawn_ = true;
}

Terminal::Event Terminal::key() {
  char c = 0;
  if (read(STDIN_FILENO, &c, 1) != 1) {  // the terminal is gone
    has_keys_ = false;
    return Event::kQuit;
  }
  if (c == 'q' || c == 'Q' || c == '\x03' || c == '\x04') return Event::kQuit;
  return c == ' ' || c == '\n' || c == '\r' ? Event::kRefresh : Event::kTime;
}

Terminal::Event Terminal::wait(int milliseconds) {
  take_keys();
  pollfd keys{has_keys_ ? STDIN_FILENO : -1, POLLIN, 0};
  const timespec time{milliseconds / 1000, (milliseconds % 1000) * 1'000'000L};
  sigset_t none;
  sigemptyset(&none);
  const int ready = g_end ? 0 : ppoll(&keys, 1, &time, &none);
  if (g_end) return Event::kQuit;
  if (g_suspend) {  // Ctrl-Z: a shell doesn't bring back the cursor
    g_suspend = 0;
    give_back();
    raise(SIGSTOP);
    return Event::kRefresh;
  }
  if (ready < 0) return errno == EINTR ? Event::kRefresh : Event::kQuit;
  return ready > 0 ? key() : Event::kTime;
}

}  // namespace lingerd
