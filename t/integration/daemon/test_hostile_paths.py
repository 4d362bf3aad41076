# SPDX-License-Identifier: Apache-2.0
"""lingerd is started by root with its files in a directory of another user, who puts links to a file of root's
in their place at every moment. lingerd may fail; that file may not change, nor become anybody's."""
import contextlib
import os
import signal
import subprocess
import sys

import pytest

from harness import inject, places
from harness.lingerd import environment
from harness.users import needs_root
from harness.waiting import wait_until

pytestmark = needs_root

OWNER = 4711
NAMES = ("lingerd.sock", "lingerd.sock.stats", "lingerd.sock.stats.new", "lingerd.pid")
SECRET = "root's own"
# Each comes so late that the one that waits for its path has put something else there.
LATE = ("bind", "open", "chmod", "chown", "fchownat", "listen", "posix_fallocate", "rename", "unlink")

# Whatever appears under the name that isn't the link is replaced by it, and says so once.
RACER = """
import os, sys
uid, name, to, before = int(sys.argv[1]), sys.argv[2], sys.argv[3], sys.argv[4] == "before"
os.setgroups([]); os.setresgid(uid, uid, uid); os.setresuid(uid, uid, uid)
print("ready", flush=True)
said = False
while True:
    try:
        there = os.lstat(name)
        if there.st_uid == uid:
            continue
        os.symlink(to, name + ".link")
        os.rename(name + ".link", name)
    except FileNotFoundError:
        if not before:
            continue
        # Before there is anything: what lingerd makes must not follow it.
        try:
            os.symlink(to, name)
        except FileExistsError:
            continue
    except FileExistsError:
        os.unlink(name + ".link")
        continue
    if not said:
        print("swapped", flush=True)
        said = True
"""


@contextlib.contextmanager
def racer(path, to, before):
    process = subprocess.Popen(
        [sys.executable, "-c", RACER, str(OWNER), str(path), str(to), "before" if before else "later"],
        stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def start_and_stop(directory, rules):
    """lingerd runs until it serves or has ended; then its log."""
    log = directory.parent / "lingerd.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            [str(places.LINGERD), "--user", "daemon", "--socket", str(directory / NAMES[0]),
             "--socket-mode", "0666", "--pidfile", str(directory / NAMES[3])],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment(rules.environment()))
    wait_until(lambda: process.poll() is not None or b"listens at" in log.read_bytes(),
               lambda: f"lingerd serves or has ended: {log.read_text()}")
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) >= 0, log.read_text()  # no crash
    return log.read_text()


@pytest.mark.parametrize("before", [False, True], ids=["", "before"])
@pytest.mark.parametrize("name", NAMES)
def test_links_instead_of_lingerds_files(sandbox, name, before):
    """Would catch a chmod or chown of root's that follows a link, a page or a pidfile that is written to what
    it leads to, and one that goes with what lingerd removes."""
    sandbox.directory.chmod(0o755)
    directory = sandbox.directory / "theirs"
    directory.mkdir(mode=0o755)
    os.chown(directory, OWNER, OWNER)
    secret = sandbox.directory / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o600)
    untouched = os.stat(secret)
    rules = inject.Rules(sandbox.directory)
    for function in LATE:
        rules.delay(function, 100)
    said = ""
    with racer(directory / name, secret, before) as process:
        for _ in range(3):
            said += start_and_stop(directory, rules)
            now = os.stat(secret)
            assert secret.read_text() == SECRET, said
            for what in ("st_mode", "st_uid", "st_gid", "st_ino", "st_nlink", "st_ctime_ns"):
                assert getattr(now, what) == getattr(untouched, what), (what, said)
        process.kill()
        assert process.stdout.read() == "swapped\n", said
