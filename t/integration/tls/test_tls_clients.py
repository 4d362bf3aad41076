# SPDX-License-Identifier: Apache-2.0
"""Other clients than Python's across stays: each goes on as if there had been none."""
import http.client
import json
import shutil
import subprocess
import threading

import pytest

from harness import clients, tls_parking
from harness.keepalive import wait_counted, wait_parked
from harness.waiting import wait_until

PARKING = ("prefork", "worker")


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


def test_curl(sandbox, mpm):
    """Five downloads over one connection, with pauses."""
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    url = f"https://localhost:{httpd.ports['tls']}/300k.bin"
    output = subprocess.run(
        ["curl", "-sk", "--rate", "300/m", "-w", "%{http_code} %{num_connects} %{size_download}\n",
         *[argument for _ in range(5) for argument in (url, "-o", "/dev/null")]],
        capture_output=True, text=True, timeout=60, check=True).stdout
    assert output.split("\n")[:5] == ["200 1 300000"] + ["200 0 300000"] * 4
    wait_counted(lingerd, Parked=0, Returned=4)  # it closes at once behind the last one


def test_python(sandbox, mpm):
    """http.client, whose sockets OpenSSL reads itself."""
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    connection = http.client.HTTPSConnection("localhost", httpd.ports["tls"], timeout=60,
                                             context=tls_parking.client_context())
    for turn in range(1, 6):
        connection.request("GET", "/64k.bin")
        response = connection.getresponse()
        assert (response.status, len(response.read())) == (200, 65536)
        wait_parked(lingerd, 1, total=turn)
    connection.close()


class _SClient:
    """openssl s_client, whose line K asks for new keys on both sides, and k for new ones of its own."""

    def __init__(self, port):
        self.process = subprocess.Popen(["openssl", "s_client", "-connect", f"127.0.0.1:{port}",
                                         "-servername", "localhost"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        self.output = bytearray()
        threading.Thread(target=self._read, daemon=True).start()
        self._wait_for(b"Verify return code", 0)  # what is written before gets lost

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(30)

    def _read(self):
        while chunk := self.process.stdout.read1(65536):
            self.output += chunk

    def _wait_for(self, what, before):
        wait_until(lambda: self.output.count(what) > before, lambda: bytes(self.output[-500:]))

    def _write(self, text, answer):
        before = self.output.count(answer)
        self.process.stdin.write(text)
        self.process.stdin.flush()
        self._wait_for(answer, before)

    def new_keys(self, command):
        self._write(command, b"KEYUPDATE")

    def ask(self):
        self._write(clients.request(close=False), b"hello, world\n")


@pytest.mark.parametrize("command", [b"K\n", b"k\n"])
def test_new_keys(sandbox, mpm, command):
    """A KeyUpdate before the first stay, while it is parked, and when it is back."""
    httpd, lingerd = tls_parking.site(sandbox, mpm, after_ms=100)
    with _SClient(httpd.ports["tls"]) as client:
        client.ask()
        client.new_keys(command)
        client.ask()
        for _ in range(3):
            wait_until(lambda: lingerd.counters()["LingerParked"] == 1, "parked")
            client.new_keys(command)
            client.ask()
            client.ask()
            client.new_keys(command)
            client.ask()
    wait_until(lambda: httpd.status()["LingerTlsResumed"] >= 3, "went on")
    assert httpd.status()["LingerTlsRefused"] == 0


NODE = """
const https = require('https');
const agent = new https.Agent({keepAlive: true, maxSockets: 1, rejectUnauthorized: false});
const sockets = new Set(); let lengths = [];
function ask(left) {
  https.get({port: process.argv[1], host: '127.0.0.1', path: '/300k.bin', agent}, response => {
    let length = 0; sockets.add(response.socket.localPort);
    response.on('data', chunk => length += chunk.length);
    response.on('end', () => {
      lengths.push(length);
      if (left > 1) setTimeout(() => ask(left - 1), 200);
      else { console.log(JSON.stringify({sockets: sockets.size, lengths})); agent.destroy(); }
    });
  });
}
ask(5);
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_node(sandbox, mpm):
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    output = subprocess.run(["node", "-e", NODE, str(httpd.ports["tls"])], capture_output=True, text=True,
                            timeout=60, check=True).stdout
    assert json.loads(output) == {"sockets": 1, "lengths": [300_000] * 5}
    assert lingerd.counters()["LingerReturned"] >= 3
