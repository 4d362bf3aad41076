# SPDX-License-Identifier: Apache-2.0
"""Browsers without a screen, by their own protocols for being driven, and a page for them."""
import contextlib
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import zlib

from harness.waiting import wait_until

IMAGES = 60
_SIDE = 48  # pixels
# How many images are there, whole; nothing before the page is.
LOADED = ("document.readyState == 'complete' && "
          f"[...document.images].filter(image => image.naturalWidth == {_SIDE}).length")
# They are slow to begin with, and the machine may be busy.
_PATIENCE = 240.0


class _Browser:
    """A process with a profile of its own in `directory`, whose output goes to a file there."""
    program = None

    def __init__(self, directory, *arguments, **options):
        self.profile = directory / "profile"
        self.profile.mkdir()
        self._numbers = itertools.count(1)
        self.output = open(directory / "browser.log", "wb")
        self.process = subprocess.Popen(
            arguments, stdout=self.output, stderr=subprocess.STDOUT, start_new_session=True,
            env={**os.environ, "HOME": str(self.profile)}, **options)

    @classmethod
    def is_installed(cls):
        return shutil.which(cls.program) is not None

    def __enter__(self):
        try:
            self.begin()
        except BaseException:
            self.__exit__()
            raise
        return self

    def begin(self):
        """Until it can be driven."""
        raise NotImplementedError

    def _is_left(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)  # its children are in the same group
            return True
        return False

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(30)
        wait_until(lambda: not self._is_left(), "all of its processes are gone")
        self.output.close()


class Chromium(_Browser):
    """Its DevTools protocol: JSON that ends with a zero byte, by two pipes."""
    program = "chromium"

    def __init__(self, directory):
        theirs_in, ours_out = os.pipe()
        ours_in, theirs_out = os.pipe()
        # It wants descriptors 3 and 4, which may be others of ours at this moment.
        super().__init__(
            directory, "bash", "-c", f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}', "bash", self.program,
            "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking",
            "--ignore-certificate-errors", "--remote-debugging-pipe",
            f"--user-data-dir={directory / 'profile'}", "about:blank", pass_fds=(theirs_in, theirs_out))
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in = os.fdopen(ours_out, "wb"), os.fdopen(ours_in, "rb")
        self._received = b""
        self._session = {}

    def begin(self):
        page = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = {"sessionId": attached["sessionId"]}

    def _message(self):
        while b"\0" not in self._received:
            chunk = self._in.read1(65536)
            assert chunk, "Chromium has ended"
            self._received += chunk
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)

    def call(self, method, **parameters):
        number = next(self._numbers)
        self._out.write(json.dumps({"id": number, "method": method, "params": parameters,
                                    **self._session}).encode() + b"\0")
        self._out.flush()
        while True:
            message = self._message()
            if message.get("id") == number:
                assert "result" in message, message
                return message["result"]

    def open(self, url):
        self.call("Page.navigate", url=url)

    def reload(self):
        self.call("Page.reload")

    def evaluate(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")


class Firefox(_Browser):
    """Its Marionette: JSON with its length before it, at a port that it writes into its profile."""
    program = "firefox-esr"

    def __init__(self, directory):
        super().__init__(directory, self.program, "--headless", "--no-remote", "--marionette",
                         "--remote-allow-system-access", "--profile", directory / "profile")
        self._socket = self._file = None

    def begin(self):
        port = self.profile / "MarionetteActivePort"
        wait_until(lambda: port.exists() and port.read_text().strip(), "Firefox listens", _PATIENCE)
        self._socket = socket.create_connection(("127.0.0.1", int(port.read_text())), _PATIENCE)
        self._file = self._socket.makefile("rb")
        self._message()  # who it is
        self.call("WebDriver:NewSession", acceptInsecureCerts=True)

    def __exit__(self, *_):
        super().__exit__()
        for each in (self._file, self._socket):
            if each is not None:
                each.close()

    def _message(self):
        length = b""
        while (digit := self._file.read(1)) != b":":
            assert digit, "Firefox has ended"
            length += digit
        return json.loads(self._file.read(int(length)))

    def call(self, method, **parameters):
        number = next(self._numbers)
        text = json.dumps([0, number, method, parameters]).encode()
        self._socket.sendall(b"%d:" % len(text) + text)
        while True:
            _, answered, error, result = self._message()
            if answered == number:
                assert error is None, error
                return result

    def open(self, url):
        self.call("WebDriver:Navigate", url=url)

    def reload(self):
        self.call("WebDriver:Refresh")

    def evaluate(self, expression):
        return self.call("WebDriver:ExecuteScript", script=f"return {expression}", args=[])["value"]


BROWSERS = (Chromium, Firefox)


def wait_loaded(browser):
    wait_until(lambda: browser.evaluate(LOADED) == IMAGES,
               lambda: f"{IMAGES} images are there: {browser.evaluate(LOADED)}", _PATIENCE)


def _png(number):
    """A square of noise, tinted, so that none is like another."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes(value for _ in range(_SIDE) for value in
                                  (os.urandom(1)[0] // 2, number * 4, 255 - number * 4))
                    for _ in range(_SIDE))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", _SIDE, _SIDE, 8, 2, 0, 0, 0))
            + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


def write_page(directory):
    """page.html in `directory`, and what belongs to it."""
    for number in range(IMAGES):
        (directory / f"image{number}.png").write_bytes(_png(number))
    images = "\n".join(f'<img src="image{number}.png">' for number in range(IMAGES))
    (directory / "page.html").write_text(
        f'<!DOCTYPE html><meta charset="utf-8"><link rel="icon" href="data:,">'
        f"<title>{IMAGES} images</title>\n{images}\n")
