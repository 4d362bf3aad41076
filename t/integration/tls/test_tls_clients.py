# SPDX-License-Identifier: Apache-2.0
"""Other clients than Python's across stays: each goes on as if there had been none."""
import functools
import http.client
import json
import re
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


def _needs(program):
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program} here")


def _wait_resumed(httpd, times):
    wait_until(lambda: httpd.status()["LingerTlsResumed"] >= times,
               lambda: f"went on {times} times: {httpd.status()['LingerTlsResumed']}")
    assert httpd.status()["LingerTlsRefused"] == httpd.status()["LingerReturnsRefused"] == 0


def test_curl(sandbox, mpm):
    """Five downloads over one connection, with pauses, unless curl is late itself."""
    httpd, lingerd = tls_parking.site(sandbox, mpm)
    url = f"https://localhost:{httpd.ports['tls']}/300k.bin"
    output = subprocess.run(
        ["curl", "-sk", "--rate", "300/m", "-w", "%{http_code} %{num_connects} %{size_download}\n",
         *[argument for _ in range(5) for argument in (url, "-o", "/dev/null")]],
        capture_output=True, text=True, timeout=60, check=True).stdout
    assert output.split("\n")[:5] == ["200 1 300000"] + ["200 0 300000"] * 4
    _wait_resumed(httpd, 1)
    wait_counted(lingerd, Parked=0)  # it closes at once behind the last one


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


class _Console:
    """A client that sends what it reads, line by line, and shows what comes."""

    def __init__(self, ready, *command):
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        self.output = bytearray()
        threading.Thread(target=self._read, daemon=True).start()
        self._wait_for(ready, 0)  # what is written before gets lost

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

    def write(self, text, answer):
        before = self.output.count(answer)
        self.process.stdin.write(text)
        self.process.stdin.flush()
        self._wait_for(answer, before)

    def ask(self):
        self.write(clients.request(close=False), b"hello, world\n")


def _s_client(port):
    """openssl s_client, whose line K asks for new keys on both sides, and k for new ones of its own."""
    return _Console(b"Verify return code", "openssl", "s_client", "-connect", f"127.0.0.1:{port}",
                    "-servername", "localhost")


def _gnutls_cli(port):
    """GnuTLS has a line that asks for new keys as well."""
    return _Console(b"Simple Client Mode", "gnutls-cli", "--no-ca-verification", "--inline-commands",
                    "-p", str(port), "localhost")


_NEW_KEYS = [
    pytest.param(_s_client, b"K\n", b"KEYUPDATE", id="openssl-both"),
    pytest.param(_s_client, b"k\n", b"KEYUPDATE", id="openssl-own"),
    pytest.param(_gnutls_cli, b"^rekey^\n", b"Rekey was completed", id="gnutls",
                 marks=_needs("gnutls-cli")),
]


@pytest.mark.parametrize("program, command, answer", _NEW_KEYS)
def test_new_keys(sandbox, mpm, program, command, answer):
    """A KeyUpdate before the first stay, while it is parked, and when it is back."""
    httpd, lingerd = tls_parking.site(sandbox, mpm, after_ms=100)
    with program(httpd.ports["tls"]) as client:
        client.ask()
        client.write(command, answer)
        client.ask()
        for _ in range(3):
            wait_until(lambda: lingerd.counters()["LingerParked"] == 1, "parked")
            client.write(command, answer)
            client.ask()
            client.ask()
            client.write(command, answer)
            client.ask()
    _wait_resumed(httpd, 3)


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


@_needs("node")
def test_node(sandbox, mpm):
    httpd, _ = tls_parking.site(sandbox, mpm)
    output = subprocess.run(["node", "-e", NODE, str(httpd.ports["tls"])], capture_output=True, text=True,
                            timeout=60, check=True).stdout
    assert json.loads(output) == {"sockets": 1, "lengths": [300_000] * 5}
    _wait_resumed(httpd, 1)


@functools.cache
def _runs_java_sources():
    if shutil.which("java") is None:
        return False
    return "jdk.compiler" in subprocess.run(["java", "--list-modules"], capture_output=True, text=True,
                                            check=False).stdout


_JAVA = """
import java.net.*; import java.net.http.*; import java.security.cert.X509Certificate; import javax.net.ssl.*;
public class Ask {
  public static void main(String[] of) throws Exception {
    X509TrustManager all = new X509ExtendedTrustManager() {
      public void checkClientTrusted(X509Certificate[] c, String a) {}
      public void checkServerTrusted(X509Certificate[] c, String a) {}
      public void checkClientTrusted(X509Certificate[] c, String a, Socket s) {}
      public void checkServerTrusted(X509Certificate[] c, String a, Socket s) {}
      public void checkClientTrusted(X509Certificate[] c, String a, SSLEngine e) {}
      public void checkServerTrusted(X509Certificate[] c, String a, SSLEngine e) {}
      public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
    };
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(null, new TrustManager[] {all}, null);
    HttpsURLConnection.setDefaultSSLSocketFactory(context.getSocketFactory());
    HttpClient client = HttpClient.newBuilder().sslContext(context).build();
    URI uri = URI.create("https://localhost:" + of[1] + "/300k.bin");
    for (int i = 0; i < 5; ++i) {
      if (i > 0) Thread.sleep(300);
      if (of[0].equals("old")) {
        HttpURLConnection old = (HttpURLConnection) uri.toURL().openConnection();
        System.out.println(old.getResponseCode() + " " + old.getInputStream().readAllBytes().length);
      } else {
        HttpResponse<byte[]> answer = client.send(HttpRequest.newBuilder(uri).build(),
                                                  HttpResponse.BodyHandlers.ofByteArray());
        System.out.println(answer.statusCode() + " " + answer.body().length);
      }
    }
  }
}
"""


@pytest.mark.parametrize("api", ["old", "new"])
def test_java(sandbox, mpm, api):
    """HttpURLConnection and java.net.http, on a TLS of their own."""
    if not _runs_java_sources():
        pytest.skip("no JDK here")
    httpd, _ = tls_parking.site(sandbox, mpm)
    source = sandbox.directory / "Ask.java"
    source.write_text(_JAVA)
    output = subprocess.run(["java", source, api, str(httpd.ports["tls"])], capture_output=True, text=True,
                            timeout=120, check=True).stdout
    assert output.splitlines() == ["200 300000"] * 5
    _wait_resumed(httpd, 1)


@_needs("wrk")
def test_wrk(sandbox, mpm):
    """Sixteen connections that ask every 100 ms or so."""
    httpd, _ = tls_parking.site(sandbox, mpm)
    script = sandbox.directory / "think.lua"
    script.write_text("function delay() return math.random(50, 150) end\n")
    output = subprocess.run(["wrk", "-t", "2", "-c", "16", "-d", "5s", "--timeout", "30s", "-s", script,
                             f"https://localhost:{httpd.ports['tls']}/64k.bin"],
                            capture_output=True, text=True, timeout=120, check=True).stdout
    assert "Socket errors" not in output and "Non-2xx" not in output, output
    assert int(re.search(r"(\d+) requests in", output)[1]) > 0
    _wait_resumed(httpd, 16)


@_needs("h2load")
def test_h2load(sandbox, mpm):
    """The same with requests at a rate: none fails."""
    httpd, _ = tls_parking.site(sandbox, mpm)
    output = subprocess.run(["h2load", "--h1", "-c", "16", "-n", "320", "--rps", "5",
                             f"https://localhost:{httpd.ports['tls']}/64k.bin"],
                            capture_output=True, text=True, timeout=120, check=True).stdout
    assert "320 succeeded, 0 failed, 0 errored, 0 timeout" in output, output
    assert "TLS Protocol: TLSv1.3" in output
    _wait_resumed(httpd, 16)
