# SPDX-License-Identifier: Apache-2.0
"""Who is compared, and one measurement of one of them."""
import dataclasses
import resource
import time

from ablinger import run_load
from accounts import cpu_seconds
from servers import Httpd, Nginx, document_root, places

WORKERS = 50
CLIENTS = 200
PAGE = "/page.html"
FILES = {"page.html": b"x" * 10240,
         "page.php": (b"<!DOCTYPE html><title>page</title><table>\n"
                      b"<?php for ($i = 1; $i <= 300; ++$i): ?>\n"
                      b"<tr><td><?= $i ?></td><td><?= htmlspecialchars(\"<row $i>\") ?></td>"
                      b"<td><?= number_format($i * 3.14159, 2) ?></td></tr>\n"
                      b"<?php endfor ?>\n</table>\n")}

TITLES = {
    "prefork": "stock prefork", "prefork+": "prefork with mod_linger",
    "worker": "stock worker", "worker+": "worker with mod_linger",
    "event": "stock event", "event+": "event with mod_linger",
    "nginx": "nginx, the file itself", "proxy": "nginx as a proxy before stock prefork",
    "php": "stock prefork, mod_php", "php+": "prefork with mod_linger, mod_php",
    "bare": "a bare MSG_TRUNC loop",
}


@dataclasses.dataclass
class Peer:
    """A server under test and everything that works for it."""
    server: object
    others: list  # lingerd, or the proxy's backend
    page: str = PAGE

    def url(self):
        return self.server.url(self.page)

    def pids(self):
        return self.server.pids() + self.other_pids()

    def other_pids(self):
        return self.lingerd_pids() + [pid for other in self.others if isinstance(other, Httpd)
                                      for pid in other.pids()]

    def lingerd_pids(self):
        return [other.pid for other in self.others if not isinstance(other, Httpd)]


class Field:
    """Starts peers when they are asked for; `fresh` ones are for a single measurement."""

    def __init__(self, peers):
        self.servers = self._peers = peers  # servers.Peers: what it starts it stops
        self.www = self._www = document_root(peers.directory, FILES)
        self._started = {}
        self._count = 0

    def get(self, name):
        if name not in self._started:
            self._started[name] = self.fresh(name)
        return self._started[name]

    def fresh(self, name, linger_config="", config="", nginx_timeouts=("5s", "30s")):
        self._count += 1
        unique = f"{name.replace('+', '-linger')}{self._count}"
        directory = self._peers.directory
        if name == "nginx":
            peer = Peer(Nginx(unique, directory, self._www, lingering_timeout=nginx_timeouts[0],
                              lingering_time=nginx_timeouts[1]), [])
        elif name == "proxy":
            backend = self.get("prefork").server
            peer = Peer(Nginx(unique, directory, self._www, backend=backend), [backend])
        else:
            peer = self._httpd(name, unique, linger_config, config)
        self._peers.add(peer.server)
        peer.server.start(PAGE) if isinstance(peer.server, Nginx) else peer.server.start()
        return peer

    def _httpd(self, name, unique, linger_config, config):
        mpm = name.rstrip("+").replace("php", "prefork")
        lingerd = self._peers.lingerd(f"l{self._count}") if name.endswith("+") else None
        httpd = Httpd(unique, self._peers.directory, self._www, mpm, workers=WORKERS,
                      lingerd=lingerd, linger_config=linger_config, config=config,
                      php=name.startswith("php"))
        return Peer(httpd, [lingerd] if lingerd else [],
                    "/page.php" if name.startswith("php") else PAGE)

    def retire(self, peer):
        """Ends a fresh peer before its time."""
        peer.server.stop()
        for other in peer.others:
            if other is not None and not isinstance(other, Httpd):
                other.stop()


# Of the clients', so that it isn't their descriptors that run out.
LATE_TABLES = 2


def most_late_sockets():
    """Some room under the descriptor limit, in one table."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[1] - 1500


def _evicted(peer):
    return peer.server.linger_counters()["LingerEvicted"] if peer.lingerd_pids() else 0


def measure(peer, late_ms, seconds, **options):
    """One load on one peer, as a flat dictionary of numbers."""
    pids, lingerd = peer.pids(), peer.lingerd_pids()
    before, lingerd_before = cpu_seconds(pids), cpu_seconds(lingerd)
    warmup = 0.5 + 1.2 * late_ms / 1000  # until the number of late sockets is steady
    options = {"concurrency": CLIENTS, "max_late": most_late_sockets(), "warmup": warmup,
               **options}
    if late_ms >= 1000:
        options |= {"late_tables": LATE_TABLES, "max_late": LATE_TABLES * most_late_sockets()}
    evicted_before = _evicted(peer)
    result = run_load(peer.url(), close_late=late_ms, detach=True, duration=seconds, **options)
    cpu, lingerd_cpu = cpu_seconds(pids) - before, cpu_seconds(lingerd) - lingerd_before
    requests = result["requests"] + result["requests_uncounted"]
    time.sleep(0.5)  # the last sockets go
    return {
        "rps": result["requests_per_second"],
        "p50_us": result["latency_us"]["p50"],
        "p90_us": result["latency_us"]["p90"],
        "p99_us": result["latency_us"]["p99"],
        "p999_us": result["latency_us"]["p999"],
        "cpu_us": cpu / max(requests, 1) * 1e6,
        "lingerd_cpu_us": lingerd_cpu / max(requests, 1) * 1e6,
        "client_cpu_us": result["cpu_us_per_request"],
        "client_cpu_share": result["cpu_share"],
        "evicted_share": (_evicted(peer) - evicted_before) / max(requests, 1),
        "failed": result["failed"],
        "held_back": result["held_back"],
        "late_peak": result["late_peak"],
    }


def php_available():
    return bool(list(places.HTTPD_MODULES.glob("libphp*.so")))
