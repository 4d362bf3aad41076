# SPDX-License-Identifier: Apache-2.0
"""The rows of LingerOffload: few workers and many slow readers, and what it costs with quick ones."""
import dataclasses
import http.client
import ssl
import statistics
import threading
import time

from ablinger import Load, run_load
from peers import php_available
from servers import Httpd, Nginx, free_port, places
from single import row

from harness import tls  # servers has made it known

WORKERS = 8
READERS = 64
MEGABYTE = 1 << 20
BIG, QUICK = "/big.php", "/page.html"
BIG_CGI, LARGE_CGI = "/cgi/big", "/cgi/large"
OFFLOAD = "LingerOffload On"


@dataclasses.dataclass
class Peer:
    title: str
    server: object
    port: int  # of TLS
    page: str

    def url(self, page=None):
        return f"https://127.0.0.1:{self.port}{page or self.page}"


class Peers:
    """Each as it would be set up for dynamic pages over TLS: mod_php on prefork, CGI on event."""

    def __init__(self, servers):
        self._servers = servers
        self.www = servers.directory / "www"
        (self.www / "big.php").write_text("<?php echo str_repeat('0123456789abcdef', 65536);")
        self._cgi = servers.directory / "cgi"
        if not self._cgi.exists():
            self._cgi.mkdir(mode=0o755)
            for script, size in (("big", MEGABYTE), ("large", 8 * MEGABYTE)):
                path = self._cgi / script
                path.write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n"
                                f"exec head -c {size} /dev/zero\n")
                path.chmod(0o755)
            tls.make_certificate(servers.directory)
        self._certificate = servers.directory / "tls.crt"
        self._count = 0
        self._behind = {}  # server: lingerd, backend

    def httpd(self, title, mpm, linger_config=None, workers=WORKERS):
        """Without `linger_config` it is stock."""
        self._count += 1
        name, (port, plain) = f"slow{self._count}", _two_ports()
        lingerd = self._servers.lingerd(f"{name}d") if linger_config is not None else None
        php = mpm == "prefork"
        modules = ["ssl", "socache_shmcb"] + ([] if php else ["cgid", "alias"])
        config = "\n".join(f"LoadModule {m}_module {places.HTTPD_MODULES}/mod_{m}.so"
                           for m in modules)
        config += tls.vhost(self._certificate, port).replace("run/ssl_scache", "ssl_scache")
        if not php:
            config += (f'ScriptSock cgid.sock\nScriptAlias /cgi/ "{self._cgi}/"\n'
                       f'<Directory "{self._cgi}">\n  Require all granted\n</Directory>\n')
        server = self._servers.add(Httpd(name, self._servers.directory, self.www, mpm,
                                         workers=workers, lingerd=lingerd, php=php, config=config,
                                         port=plain,
                                         linger_config=linger_config or ""))
        server.start()
        self._behind[server] = [lingerd] if lingerd else []
        return Peer(title, server, port, BIG if php else BIG_CGI)

    def stop(self, peer):
        """With what works for it."""
        for server in (peer.server, *self._behind.pop(peer.server, ())):
            server.stop()

    def nginx(self, title, backend):
        self._count += 1
        port = free_port()
        server = self._servers.add(Nginx(f"slow{self._count}", self._servers.directory, self.www,
                                         backend=backend, tls=(port, self._certificate)))
        server.start(QUICK)
        self._behind[server] = [backend]
        return Peer(title, server, port, BIG)


def _two_ports():
    first = second = free_port()
    while second == first:
        second = free_port()
    return first, second


def _context():
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


class Quick:
    """Somebody with a small request, twice a second: how long each waits. One that is still waiting
    at the end counts with its wait so far."""

    def __init__(self, peer):
        self._peer = peer
        self._context = _context()
        self._waits = {}
        self._threads = []

    def _ask(self, number):
        begun = time.monotonic()
        self._waits[number] = (begun, None)
        connection = http.client.HTTPSConnection("127.0.0.1", self._peer.port, timeout=120,
                                                 context=self._context)
        try:
            connection.request("GET", QUICK, headers={"Connection": "close"})
            connection.getresponse().read()
            self._waits[number] = (begun, time.monotonic() - begun)
        except OSError:
            pass  # the server is stopped
        finally:
            connection.close()

    def run(self, seconds):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            thread = threading.Thread(target=self._ask, args=(len(self._threads),), daemon=True)
            self._threads.append(thread)
            thread.start()
            time.sleep(0.5)
        end = time.monotonic()
        return [end - begun if wait is None else wait for begun, wait in self._waits.values()]


@dataclasses.dataclass(frozen=True)
class Slow:
    """What the readers fetch, and how slowly."""
    name: str
    page: str  # of event: a CGI program
    rate: int
    words: str
    prefork: bool


SLOW = (
    Slow("offload", BIG_CGI, 256 << 10, "1 MB, 64 clients at 256 KB/s, which can take 16 a second", True),
    # More than the kernel takes into a socket's buffer (4 MB at most, by default).
    Slow("offload-large", LARGE_CGI, 1 << 20, "8 MB, 64 clients at 1 MB/s, which can take 8 a second",
         False),
)


def _slow_once(peer, load, seconds):
    """(ablinger's result, waits of quick requests)"""
    before = 6  # seconds: until every reader is in the middle of something
    url = peer.url() if load.prefork else peer.url(load.page)
    readers = Load(url, concurrency=READERS, read_rate=load.rate, rcvbuf=65536, warmup=before,
                   duration=seconds, until_fin=True, timeout=120)
    try:
        time.sleep(before)
        waits = Quick(peer).run(seconds)
        return readers.result(), waits
    finally:
        readers.stop()


def _slow_peers(peers, load):
    start = {"stock event, CGI": lambda t: peers.httpd(t, "event"),
             "event with LingerOffload, CGI": lambda t: peers.httpd(t, "event", OFFLOAD)}
    if not load.prefork or not php_available():
        return start
    return {"stock prefork, mod_php": lambda t: peers.httpd(t, "prefork"),
            "prefork with LingerOffload, mod_php": lambda t: peers.httpd(t, "prefork", OFFLOAD),
            "nginx, buffering, before that stock prefork": lambda t: peers.nginx(
                t, peers.httpd("backend", "prefork").server), **start}


def _slow_rows(peers, load, seconds, repeats, say):
    rates, medians, worst = {}, {}, {}
    failed = 0
    for _ in range(min(repeats, 2)):
        for title, make in _slow_peers(peers, load).items():
            peer = make(title)
            result, waits = _slow_once(peer, load, seconds)
            failed += result["failed"]
            rates.setdefault(title, []).append(result["requests_per_second"])
            medians.setdefault(title, []).append(statistics.median(waits) * 1000)
            worst.setdefault(title, []).append(max(waits) * 1000)
            say(f"{load.name}: {title}: {rates[title][-1]:.2f} req/s, a quick request waits "
                f"{medians[title][-1]:,.0f} ms (at most {worst[title][-1]:,.0f}), "
                f"{result['failed']} failed")
            peers.stop(peer)
    what = f"{WORKERS} workers, TLS, dynamic responses of {load.words}"
    return [row(f"{load.name}-rate", f"requests/s: {what}", "/s", rates, "",
                note=f"{failed} failed" if failed else ""),
            row(f"{load.name}-wait", f"wait of a quick request meanwhile, median ({load.words})",
                "ms", medians, ""),
            row(f"{load.name}-worst", f"wait of a quick request meanwhile, the longest "
                f"({load.words})", "ms", worst, "")]


def slow(field, seconds, repeats, say):
    peers = Peers(field.servers)
    return [one for load in SLOW
            for one in _slow_rows(peers, load, max(4 * seconds, 16), repeats, say)]


# ---- Quick clients -----------------------------------------------------------------------------

def _pair(peers, mpm, seconds, repeats, say, url, title, name, concurrency):
    """Interleaved: with LingerOffload against without, everything else the same."""
    both = {"off": peers.httpd("off", mpm, "", 50), "on": peers.httpd("on", mpm, OFFLOAD, 50)}
    values = {"off": [], "on": []}
    for repeat in range(repeats):
        for key in ("off", "on") if repeat % 2 == 0 else ("on", "off"):
            result = run_load(url(both[key]), concurrency=concurrency, duration=seconds, warmup=0.5,
                              until_fin=True)
            values[key].append(result["requests_per_second"])
            if result["failed"]:
                raise RuntimeError(f"{title}: {result}")
        say(f"offload-cost: {title}: {values['off'][-1]:,.0f} req/s off, "
            f"{values['on'][-1]:,.0f} on")
    for peer in both.values():
        peers.stop(peer)
    ratio = statistics.median(on / off for on, off in zip(values["on"], values["off"]))
    return row(name, f"requests/s of quick clients, LingerOffload On against Off: {title}", "/s",
               {"Off": values["off"], "On": values["on"]}, ">= 0.97", ratio)


def cost(field, seconds, repeats, say):
    peers = Peers(field.servers)
    plain = lambda peer: peer.server.url(QUICK)
    big = lambda peer: peer.url()
    file = lambda peer: peer.url("/big.bin")
    (peers.www / "big.bin").write_bytes(b"0123456789abcdef" * 65536)
    rows = []
    for mpm in ("prefork", "event"):
        if mpm == "prefork" and not php_available():
            continue
        rows.append(_pair(peers, mpm, seconds, repeats, say, plain, f"{mpm}, 10 KB in the clear",
                          f"offload-cost-{mpm}-10k", 50))
        if mpm == "prefork":
            rows.append(_pair(peers, mpm, seconds, repeats, say, big, f"{mpm}, 1 MB of mod_php, TLS",
                              f"offload-cost-{mpm}-1m", 16))
        else:
            rows.append(_pair(peers, mpm, seconds, repeats, say, file, f"{mpm}, a file of 1 MB, TLS",
                              f"offload-cost-{mpm}-1m", 16))
    return rows
