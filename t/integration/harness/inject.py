# SPDX-License-Identifier: Apache-2.0
"""The test's side of t/inject: rules that let libc's functions fail inside a server while it runs,
and the servers that run under them."""
import ctypes
import errno
import functools
import mmap
import os
import subprocess

from harness import places, sanitized
from harness.httpd import Httpd
from harness.lingerd import _SANITIZERS

_FOR_EVER = 0xFFFFFFFF
_RULES = 16


class _Rule(ctypes.Structure):
    _fields_ = [("function", ctypes.c_char * 32), ("calls", ctypes.c_uint32),
                ("applied", ctypes.c_uint32), ("first", ctypes.c_uint32),
                ("count", ctypes.c_uint32), ("error", ctypes.c_int32),
                ("delay_ms", ctypes.c_uint32)]


class _Page(ctypes.Structure):
    _fields_ = [("calendar_offset_s", ctypes.c_int64), ("calendar_calls", ctypes.c_uint64),
                ("send_buffer", ctypes.c_uint32), ("spare", ctypes.c_uint32),
                ("rule", _Rule * _RULES)]


@functools.cache
def shim():
    """The compiled shim: once for each run of the tests, in case its source has changed."""
    path = places.BUILD / "inject.so"
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_suffix(f".{os.getpid()}.so")
    subprocess.run(["cc", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o",
                    str(fresh), str(places.ROOT / "t/inject/inject.c"), "-ldl"], check=True)
    fresh.rename(path)
    return path


def compiled(sandbox, source):
    """What a test preloads into a server itself: the path of the library made of that file."""
    path = sandbox.directory / source.with_suffix(".so").name
    subprocess.run(["cc", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(path),
                    str(source), "-ldl"], check=True)
    return str(path)


class Rules:
    """A file of rules, in `directory`."""

    def __init__(self, directory):
        self.path = directory / "inject.rules"
        self.path.write_bytes(bytes(ctypes.sizeof(_Page)))
        self.path.chmod(0o666)  # httpd's children count in it
        with open(self.path, "r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)
        self.page = _Page.from_buffer(self._memory)

    def environment(self):
        """A sanitizer wants to be the first library: it is told that this is meant."""
        return {"LD_PRELOAD": str(shim()), "INJECT_RULES": str(self.path),
                "ASAN_OPTIONS": _SANITIZERS["ASAN_OPTIONS"] + ":verify_asan_link_order=0"}

    def fail(self, function, error, first=1, count=_FOR_EVER):
        """From its `first` call on (of those after now), `function` fails `count` times."""
        return self._add(function, first, count, getattr(errno, error), 0)

    def delay(self, function, delay_ms, first=1, count=_FOR_EVER):
        """The same, but it only comes late."""
        return self._add(function, first, count, 0, delay_ms)

    def _add(self, function, first, count, error, delay_ms):
        rule = next(rule for rule in self.page.rule if not rule.function)
        rule.calls = rule.applied = 0
        rule.first, rule.count, rule.error, rule.delay_ms = first, count, error, delay_ms
        rule.function = function.encode()
        return rule

    def clear(self):
        for rule in self.page.rule:
            rule.function = b""


def lingerd(sandbox, rules, *arguments, **options):
    """A lingerd under `rules`."""
    return sandbox.lingerd(*arguments, env=rules.environment(), **options)


class _Httpd(Httpd):
    def __init__(self, environment, *arguments, **options):
        self._environment = environment
        super().__init__(*arguments, **options)

    def environment(self):
        return sanitized.httpd_environment(self._environment)


def httpd(sandbox, environment, mpm, **options):
    """An httpd of `sandbox` whose processes have `environment`."""
    directory = sandbox.directory / f"httpd-{len(sandbox.servers)}"
    directory.mkdir(mode=0o755)
    server = _Httpd(environment, directory, mpm, start=False, **options)
    sandbox.servers.append(server)
    server.start()
    return server
