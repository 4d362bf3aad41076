# SPDX-License-Identifier: Apache-2.0
"""lingerctl, run to its end or in a terminal of its own."""
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import termios
import time

from harness import places
from harness.waiting import DEADLINE

_ENVIRONMENT = {"PATH": os.environ["PATH"], "TERM": "xterm", "LC_ALL": "C.UTF-8"}


def run(*arguments, lingerd=None, env=None, **options):
    """The completed process. `lingerd` stands for its --socket."""
    socket = ["--socket", str(lingerd.socket_path)] if lingerd else []
    options.setdefault("stdout", subprocess.PIPE)
    return subprocess.run([str(places.LINGERCTL), *socket, *map(str, arguments)],
                          stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, timeout=30,
                          env={**_ENVIRONMENT, **(env or {})}, check=False, **options)


def print_of(*arguments, lingerd=None):
    """What it prints, and it must succeed without a word on stderr."""
    result = run(*arguments, lingerd=lingerd)
    assert (result.returncode, result.stderr) == (0, ""), result
    return result.stdout


class InTerminal:
    """lingerctl on a pseudo-terminal of 24 lines by 80 columns."""

    def __init__(self, *arguments, env=None):
        self.text = ""
        self._master, slave = pty.openpty()
        self._resize(slave, 24, 80)
        self._slave = slave  # stays open, so that the terminal's settings outlive the program
        self.settings_before = self.settings()
        self.process = subprocess.Popen(
            [str(places.LINGERCTL), *map(str, arguments)], stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, env={**_ENVIRONMENT, **(env or {})})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        os.close(self._master)
        os.close(self._slave)

    @staticmethod
    def _resize(descriptor, rows, columns):
        fcntl.ioctl(descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def resize(self, rows, columns):
        """The program has no controlling terminal here, so it gets its signal from us."""
        self._resize(self._slave, rows, columns)
        self.signal(signal.SIGWINCH)

    def settings(self):
        return termios.tcgetattr(self._slave)

    def type(self, keys):
        os.write(self._master, keys.encode())

    def signal(self, number=signal.SIGINT):
        self.process.send_signal(number)

    def read(self):
        while select.select([self._master], [], [], 0)[0]:
            self.text += os.read(self._master, 65536).decode()
        return self.text

    def read_until(self, condition, what):
        """Reads on until `condition` holds for all that was printed."""
        end = time.monotonic() + DEADLINE
        while not condition(self.read()):
            assert time.monotonic() < end, f"{what}: {self.text[-2000:]!r}"
            time.sleep(0.02)

    def wait(self):
        """The exit code; what is printed meanwhile is read, so that nobody waits for us."""
        end = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            self.read()
            assert time.monotonic() < end, "lingerctl doesn't end"
            time.sleep(0.02)
        self.read()
        return self.process.returncode
