# SPDX-License-Identifier: Apache-2.0
"""How lingerd starts, and what it says when it doesn't: which option, what it was given, what is
allowed, and the exit code of the Linux Standard Base."""
import os
import re
import signal
import socket
import subprocess

import pytest

from harness import places, proc, stats
from harness.lingerd import environment, run_lingerd
from harness.record import DENIED, WELCOME, Child
from harness.waiting import wait_equal, wait_until

BAD_ARGUMENT, NO_PRIVILEGE, NOT_CONFIGURED = 2, 4, 6
needs_root = pytest.mark.skipif(not places.am_root(), reason="needs root")

# option, value, words that the message must have besides these two
BAD_VALUES = [
    ("socket", "relative.sock", ["absolute"]),
    ("socket", "/tmp/" + "s" * 103, ["108", "107"]),
    ("socket", "", ["absolute"]),
    ("socket-mode", "888", ["octal"]),
    ("socket-mode", "rw", ["octal"]),
    ("socket-mode", "1777", ["octal", "0777"]),
    ("socket-group", "no-such-group", ["group"]),
    ("user", "no-such-user", ["user"]),
    ("allow-user", "no-such-user", ["user"]),
    ("max-connections", "0", ["1"]),
    ("max-connections", "-5", ["1"]),
    ("max-connections", "many", ["number"]),
    ("max-connections", "99999999", ["RLIMIT_NOFILE"]),
    ("max-time", "0", ["1", "3600"]),
    ("max-time", "3601", ["1", "3600"]),
    ("max-time", "1.5", ["1", "3600"]),
    ("max-time", "5s", ["1", "3600"]),
    ("pidfile", "relative.pid", ["absolute"]),
]


def assert_refused(result, code, *words):
    assert result.returncode == code, (result.returncode, result.stdout, result.stderr)
    assert result.stdout == ""
    assert result.stderr.startswith("lingerd: ")
    for word in words:
        assert word in result.stderr, f"{word!r} is not in {result.stderr!r}"


@pytest.mark.parametrize("option, value, words", BAD_VALUES)
def test_bad_flags(option, value, words):
    """Would catch a value that is taken, cut, or read as another."""
    assert_refused(run_lingerd(f"--{option}", value, "--check-config"), BAD_ARGUMENT, option, value,
                   *words)


@pytest.mark.parametrize("option, value, words", BAD_VALUES)
def test_bad_keys(sandbox, option, value, words):
    """The same names in the configuration file, with the line. Would catch a key that isn't checked
    as its flag is."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text(f"# a comment\n\n{option} = {value}\n")
    assert_refused(run_lingerd("--config", config, "--check-config"), BAD_ARGUMENT, option, value,
                   *words)


def test_the_message_names_file_and_line(sandbox):
    """Would catch a message that leaves the admin searching."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text("# a comment\n\nmax-time = soon\n")
    assert f"{config}:3: max-time" in run_lingerd("--config", config, "--check-config").stderr


@pytest.mark.parametrize("line", ["colour = blue", "max-time", "= 5", "max-time 5",
                                  "daemon = maybe", "max-time = 5\nmax-time = 6"])
def test_bad_lines(sandbox, line):
    """Would catch a line that is skipped without a word."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text(line + "\n")
    result = run_lingerd("--config", config, "--check-config")
    assert_refused(result, BAD_ARGUMENT, str(config) + ":")


@pytest.mark.parametrize("arguments", [["--colour"], ["--colour", "blue"], ["stray"], ["--max-time"],
                                       ["-x"]])
def test_bad_command_lines(arguments):
    """Would catch a flag that is ignored."""
    assert_refused(run_lingerd(*arguments), BAD_ARGUMENT, arguments[0])


def test_check_config(sandbox):
    """Would catch a check that starts anything, or that passes what a start would refuse."""
    path = sandbox.directory / "l.sock"
    config = sandbox.directory / "lingerd.conf"
    config.write_text(f"socket = {path}\nmax-time = 7\n; comment\n# comment\nsocket-mode=0600\n")
    result = run_lingerd("--config", config, "--check-config")
    assert result.returncode == 0, result.stderr
    assert not path.exists()


def test_version_and_help():
    """Would catch a --help that lacks an option."""
    assert re.fullmatch(r"lingerd \d+\.\d+\S*\n", run_lingerd("--version").stdout)
    text = run_lingerd("--help").stdout
    for option in ("socket", "socket-mode", "socket-group", "user", "max-connections", "max-time",
                   "allow-user", "config", "check-config", "daemon", "pidfile", "version"):
        assert f"--{option}" in text


def test_flags_go_before_the_file(sandbox):
    """Would catch a file that overrules the command line."""
    config = sandbox.directory / "lingerd.conf"
    config.write_text("max-connections = 11\nsocket = /nonexistent/l.sock\n")
    lingerd = sandbox.lingerd("--config", str(config), "--max-connections", "22")
    assert lingerd.counters()["LingerQueueLimit"] == 22


def test_missing_config_file(sandbox):
    """Would catch a start with defaults that the admin didn't ask for."""
    missing = sandbox.directory / "none.conf"
    assert_refused(run_lingerd("--config", missing), NOT_CONFIGURED, str(missing),
                   "No such file or directory")


def test_missing_directory(sandbox):
    """Would catch a directory that lingerd makes by itself, with whatever mode."""
    path = sandbox.directory / "none" / "l.sock"
    assert_refused(run_lingerd("--socket", path), NOT_CONFIGURED, str(path),
                   f"no directory {path.parent}")
    assert not path.parent.exists()


def test_live_other_lingerd(sandbox):
    """Would catch a second lingerd that takes the socket away from the first."""
    lingerd = sandbox.lingerd()
    result = run_lingerd("--socket", lingerd.socket_path)
    assert result.returncode not in (0, BAD_ARGUMENT)
    assert str(lingerd.socket_path) in result.stderr and "another lingerd" in result.stderr
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
    assert lingerd.counters()["pid"] == lingerd.pid


def test_live_but_stopped_lingerd(sandbox):
    """The same when the first one doesn't answer. Would catch a probe that waits for an answer."""
    lingerd = sandbox.lingerd()
    lingerd.pause()
    try:
        result = run_lingerd("--socket", lingerd.socket_path, timeout=20)
        assert result.returncode not in (0, BAD_ARGUMENT) and "another lingerd" in result.stderr
    finally:
        lingerd.resume()


def test_left_over_socket(sandbox):
    """A killed lingerd leaves its socket and its stats page behind. Would catch a start that needs
    an admin's rm first."""
    lingerd = sandbox.lingerd()
    lingerd.kill()
    assert lingerd.socket_path.is_socket() and lingerd.stats_path.exists()
    lingerd.start()
    with Child(lingerd.socket_path) as child:
        assert child.greeting() == WELCOME
    assert lingerd.stop() == []
    assert not lingerd.socket_path.exists() and not lingerd.stats_path.exists()


@pytest.mark.parametrize("kind", ["file", "directory", "symlink", "stream", "datagram"])
def test_not_our_socket(sandbox, kind):
    """Would catch a lingerd that removes somebody's file."""
    path = sandbox.directory / "thing"
    other = None
    if kind == "file":
        path.write_text("precious")
    elif kind == "directory":
        path.mkdir()
    elif kind == "symlink":
        path.symlink_to("/etc/passwd")
    else:
        other = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM if kind == "stream"
                              else socket.SOCK_DGRAM)
        other.bind(str(path))
        if kind == "stream":
            other.listen()
    before = os.lstat(path)
    result = run_lingerd("--socket", path)
    assert result.returncode not in (0, BAD_ARGUMENT)
    assert str(path) in result.stderr
    assert os.lstat(path).st_ino == before.st_ino
    if other:
        other.close()


@needs_root
def test_no_privilege(sandbox):
    """Exit code 4: an ordinary user in root's directory. Would catch one that blames something
    else."""
    directory = sandbox.directory / "roots"
    directory.mkdir(mode=0o755)
    nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    result = subprocess.run([*nobody, str(places.LINGERD), "--socket", str(directory / "l.sock")],
                            capture_output=True, text=True, timeout=30, check=False,
                            env=environment(), stdin=subprocess.DEVNULL)
    assert_refused(result, NO_PRIVILEGE, str(directory), "ermission denied")
    result = subprocess.run([*nobody, str(places.LINGERD), "--user", "root", "--socket",
                             str(directory / "l.sock")], capture_output=True, text=True, timeout=30,
                            check=False, env=environment(), stdin=subprocess.DEVNULL)
    assert result.returncode == NO_PRIVILEGE, result.stderr


@pytest.mark.parametrize("mode", ["0600", "0666", "0660"])
def test_socket_mode(sandbox, mode):
    """Would catch a socket that the umask changes, or one that anybody may use for a moment."""
    old = os.umask(0o077)
    try:
        lingerd = sandbox.lingerd(mode=mode)
    finally:
        os.umask(old)
    assert lingerd.socket_path.stat().st_mode & 0o7777 == int(mode, 8)
    assert lingerd.stats_path.stat().st_mode & 0o7777 == 0o644  # readers need no rights but this


@needs_root
def test_user_and_group(sandbox):
    """Would catch a daemon that stays root, or a socket that its group can't use."""
    name, uid, gid = places.httpd_user()
    lingerd = sandbox.lingerd("--user", "nobody", "--socket-group", name, mode="0660")
    assert proc.uid(lingerd.pid) == 65534
    assert lingerd.socket_path.stat().st_gid == gid
    client = subprocess.run(
        ["setpriv", "--reuid", str(uid), "--regid", str(gid), "--clear-groups",
         "/usr/bin/python3", "-c",
         "import socket, sys; s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET); "
         "s.connect(sys.argv[1]); print(len(s.recv(100)))", str(lingerd.socket_path)],
        capture_output=True, text=True, timeout=30, check=False)
    assert client.stdout == "16\n", client.stderr


def test_allow_user(sandbox):
    """Would catch a name that is taken for a part of one, and a verdict that comes too late."""
    me, other = ("root", "nobody") if places.am_root() else (places.httpd_user()[0], "root")
    welcoming = sandbox.lingerd("--allow-user", other, "--allow-user", me)
    with Child(welcoming.socket_path) as child:
        assert child.greeting() == WELCOME
    denying = sandbox.lingerd("--allow-user", other)
    denying.allowed_lines.append("refused a connection")
    with Child(denying.socket_path) as child:
        assert child.greeting() == DENIED
        assert child.socket.recv(10) == b""
    wait_equal(lambda: denying.counters()["LingerRejected"], 1, "rejected")


class Background:
    """A lingerd that has put itself into the background; stopped by its pidfile."""

    def __init__(self, directory, *arguments):
        self.socket_path = directory / "bg.sock"
        self.pidfile = directory / "bg.pid"
        self.command = [str(places.LINGERD), "--daemon", "--pidfile", str(self.pidfile), "--socket",
                        str(self.socket_path), *arguments]
        self.pid = None

    def start(self):
        result = subprocess.run(self.command, capture_output=True, text=True, timeout=30,
                                env=environment(), stdin=subprocess.DEVNULL, check=False)
        assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
        self.pid = int(self.pidfile.read_text())
        return self

    def stop(self):
        if self.pid and proc.alive(self.pid):
            os.kill(self.pid, signal.SIGTERM)
            wait_until(lambda: not proc.alive(self.pid), "the daemon has gone")


@pytest.fixture
def background(sandbox):
    daemon = Background(sandbox.directory)
    yield daemon
    daemon.stop()


def test_daemon(background):
    """As a host without systemd starts it: the command returns when lingerd serves. Would catch a
    return before that, a terminal or a directory that stays in use, and a pidfile of the wrong
    process."""
    background.start()
    with Child(background.socket_path) as child:  # at once: no waiting
        assert child.greeting() == WELCOME
    pid = background.pid
    assert stats.read_page(background.socket_path.with_suffix(".sock.stats"))["pid"] == pid
    assert os.readlink(f"/proc/{pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 1, 2)} == {"/dev/null"}
    assert os.getsid(pid) != pid  # so no terminal can become its own
    assert os.getsid(pid) != os.getsid(0)
    background.stop()
    assert not background.pidfile.exists() or background.pidfile.read_text() == ""
    assert not background.socket_path.exists()


def test_daemon_that_fails(sandbox):
    """The shell gets the reason and the exit code. Would catch a daemon that fails in silence."""
    path = sandbox.directory / "none" / "l.sock"
    assert_refused(run_lingerd("--daemon", "--socket", path), NOT_CONFIGURED, str(path))


def test_second_daemon(background):
    """Would catch two daemons with one pidfile."""
    background.start()
    result = run_lingerd("--daemon", "--pidfile", background.pidfile, "--socket",
                         background.socket_path.with_name("other.sock"))
    assert result.returncode not in (0, BAD_ARGUMENT)
    assert str(background.pidfile) in result.stderr and str(background.pid) in result.stderr
    assert int(background.pidfile.read_text()) == background.pid
