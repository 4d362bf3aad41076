// SPDX-License-Identifier: Apache-2.0
#include "mod_linger/stay/listener_socket.h"

#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include <CppUTest/TestHarness.h>

using namespace lingerd;

namespace {

// A process id that nobody has: of a child that has ended.
pid_t nobodys() {
  const pid_t child = fork();
  if (child == 0) _exit(0);
  waitpid(child, nullptr, 0);
  return child;
}

}  // namespace

TEST_GROUP(return_listener) {
  std::string runtime;
  std::string problem;

  void setup() override {
    char name[] = "/tmp/return_listener.XXXXXX";
    runtime = mkdtemp(name);
  }
  void teardown() override {
    std::filesystem::remove_all(runtime);
    // CppUTest counts what is allocated, after this.
    runtime = {};
    problem = {};
  }
  std::string of(pid_t pid) const {
    return runtime + "/linger." + std::to_string(pid);
  }
};

TEST(return_listener, is_made_where_only_its_user_gets) {
  ReturnListener made;
  CHECK(make_return_listener(runtime, 17, made, problem));
  CHECK(made.socket && made.name);
  CHECK(made.directory == of(17));
  struct stat status {};
  CHECK(stat(made.directory.c_str(), &status) == 0);
  LONGS_EQUAL(0700, status.st_mode & 0777);
  remove_return_listener(made.directory.c_str());
  CHECK(!std::filesystem::exists(of(17)));
}

TEST(return_listener, sweeps_what_the_killed_have_left) {
  {
    ReturnListener killed;
    CHECK(make_return_listener(runtime, 17, killed, problem));
  }
  const pid_t gone = nobodys();
  std::filesystem::create_directory(of(gone));      // killed before it made its socket
  std::filesystem::create_directory(of(getpid()));  // or one that is just about to
  std::filesystem::create_directory(runtime + "/linger.");
  std::filesystem::create_directory(runtime + "/linger.17x");
  std::ofstream(runtime + "/linger.18") << "a file";
  std::filesystem::create_directory_symlink("/tmp", runtime + "/linger.19");
  ReturnListener made;
  CHECK(make_return_listener(runtime, 20, made, problem));
  CHECK(!std::filesystem::exists(of(17)));
  CHECK(!std::filesystem::exists(of(gone)));
  CHECK(std::filesystem::exists(of(getpid())));
  for (const char* kept : {"/linger.", "/linger.17x", "/linger.18", "/linger.19"}) {
    CHECK(std::filesystem::exists(runtime + kept));
  }
}

TEST(return_listener, leaves_those_that_somebody_has) {
  ReturnListener one;
  ReturnListener two;
  const pid_t gone = nobodys();  // as far as can be seen from here: of another process-id namespace
  CHECK(make_return_listener(runtime, gone, one, problem));
  CHECK(make_return_listener(runtime, 21, two, problem));
  CHECK(std::filesystem::exists(of(gone) + "/return.sock"));
  ReturnListener same;
  CHECK(!make_return_listener(runtime, gone, same, problem));
  CHECK(problem.find("Another httpd uses it") != std::string::npos);
}

TEST(return_listener, says_what_to_do_where_there_is_no_directory) {
  ReturnListener made;
  CHECK(!make_return_listener(runtime + "/none", 17, made, problem));
  CHECK(problem.find("mkdir -p " + runtime + "/none") != std::string::npos);
  CHECK(problem.find("DefaultRuntimeDir") != std::string::npos);
}

TEST(return_listener, may_have_a_path_longer_than_a_sockets_name) {
  const std::string deep = runtime + "/" + std::string(120, 'd');
  std::filesystem::create_directory(deep);
  ReturnListener made;
  CHECK(make_return_listener(deep, 17, made, problem));
  CHECK(std::filesystem::exists(made.directory + "/return.sock"));
}
