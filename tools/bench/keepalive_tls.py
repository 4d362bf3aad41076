# SPDX-License-Identifier: Apache-2.0
"""The same over TLS 1.3: LingerKeepAliveTLS beside stock prefork, which keeps connections or closes
them, and event; 50 workers each. Clients that reconnect resume their TLS session, as browsers do."""
import dataclasses
import statistics

from keepalive import FOR_EVER
from peers import WORKERS, measure, most_late_sockets
from servers import Httpd, free_port, places
from single import row

from harness import tls  # servers has made it known

PARKS, STOCK, OFF = "prefork with LingerKeepAliveTLS", "stock prefork", "stock prefork, KeepAlive Off"
EVENT, PLAIN = "stock event", "prefork with LingerKeepAlive, no TLS"
KEPT = "KeepAlive On\nKeepAliveTimeout 15\nMaxKeepAliveRequests 0\n"
# MPM, whether connections are parked, and kept.
NAMES = {PARKS: ("prefork", True, KEPT), STOCK: ("prefork", False, KEPT), OFF: ("prefork", False, ""),
         EVENT: ("event", False, KEPT), PLAIN: ("prefork", True, KEPT)}
# (clients, ms that they think, targets beside: kept by stock, closed by stock, what they ask for)
LOADS = ((400, 200, ">= 3", ">= 1.5", ""), (2000, 2000, "", "", ">= 0.99"))
PAGE = "/page.html"


@dataclasses.dataclass
class _Peer:
    server: Httpd
    lingerd: object  # or None
    address: str

    def url(self):
        return self.address

    def pids(self):
        return self.server.pids() + self.lingerd_pids()

    def lingerd_pids(self):
        return [self.lingerd.pid] if self.lingerd else []


class _Site:
    """One server, for one measurement."""

    _count = 0

    def __init__(self, field, who, after_ms=None):
        self._who, self._after_ms = who, after_ms
        self._peers = field.servers
        _Site._count += 1
        self._name = f"tls{_Site._count}"
        self._www = field.www

    def __enter__(self):
        mpm, parks, config = NAMES[self._who]
        lingerd = self._peers.lingerd(f"{self._name}d") if parks else None
        port, plain = free_port(), free_port()
        self._server = self._peers.add(Httpd(
            self._name, self._peers.directory, self._www, mpm, workers=WORKERS, lingerd=lingerd,
            port=plain, linger_config="LingerKeepAlive On" if parks else "",
            config=self._tls(port) + config))
        self._server.start()
        self._lingerd = lingerd
        address = (f"http://127.0.0.1:{plain}" if self._who == PLAIN else f"https://127.0.0.1:{port}")
        return _Peer(self._server, lingerd, address + PAGE)

    def __exit__(self, *_):
        self._server.stop()
        if self._lingerd:
            self._lingerd.stop()

    def _tls(self, port):
        certificate = self._peers.directory / "tls.crt"
        if not certificate.exists():
            tls.make_certificate(self._peers.directory)
        lines = [f"LoadModule {m}_module {places.HTTPD_MODULES}/mod_{m}.so"
                 for m in ("ssl", "socache_shmcb")]
        if self._who == PARKS:
            lines += [f"LoadModule linger_tls_module {places.MODULE_TLS}", "LingerKeepAliveTLS On"]
            if self._after_ms is not None:
                lines.append(f"LingerKeepAliveTLSAfter {self._after_ms}")
        return "\n".join(lines) + tls.vhost(certificate, port).replace("run/ssl_scache", "ssl_scache")


def _sample(field, who, seconds, say, what, after_ms=None, **options):
    with _Site(field, who, after_ms) as peer:
        keeps = None if who == OFF else FOR_EVER
        sample = measure(peer, 0, seconds, warmup=4, timeout=20, threads=1, keepalive=keeps,
                         resume=True, **options)
        if peer.lingerd:
            counters = peer.server.linger_counters()
            sample["resumed"] = counters.get("LingerTlsResumed", 0)
            sample["refused"] = counters.get("LingerTlsRefused", 0)
    say(f"{what:22}{who:37}{sample['rps']:9,.0f} req/s  p50 {sample['p50_us'] / 1000:8.2f} ms"
        f"  p99 {sample['p99_us'] / 1000:8.2f} ms  {sample['cpu_us']:6.1f} us CPU a request, "
        f"{sample['lingerd_cpu_us']:.1f} of it lingerd's, the client's {sample['client_cpu_us']:.0f}"
        f"  {sample['failed']} failed, {sample.get('resumed', 0)} resumed, "
        f"{sample.get('refused', 0)} refused")
    return sample


def _thinking_rows(name, title, values, asked, targets):
    """One row for each thing that it is compared with."""
    ours = statistics.median(values[PARKS])
    beside = (("stock", ours / statistics.median(values[STOCK])),
              ("off", ours / statistics.median(values[OFF])), ("asked", ours / asked))
    for (what, ratio), target in zip(beside, targets):
        yield row(f"{name}-{what}", title, "rps", values, target, ratio)


def thinking(field, seconds, repeats, say):
    rows = []
    for clients, think, *targets in LOADS:
        if clients + 500 > most_late_sockets():
            continue
        values, asked = {}, clients / (think / 1000)
        for _ in range(min(repeats, 3)):
            for who in (STOCK, OFF, EVENT, PARKS):
                # Where connections end, as many requests a second, each by one of its own.
                pause = {"rate": int(asked)} if who == OFF else {"think": think}
                sample = _sample(field, who, seconds, say, f"TLS, {clients} think {think} ms",
                                 concurrency=clients, **pause)
                values.setdefault(who, []).append(sample["rps"])
        rows += _thinking_rows(f"keepalive-tls-{clients}-{think}ms",
                               f"requests/s over TLS, {clients:,} clients that think {think} ms "
                               f"(they ask for {asked:,.0f})", values, asked, targets)
    return rows


def back_to_back(field, seconds, repeats, say):
    values = {}
    for repeat in range(repeats):
        for who in (PARKS, STOCK) if repeat % 2 else (STOCK, PARKS):
            sample = _sample(field, who, seconds, say, "TLS, back to back", concurrency=WORKERS)
            values.setdefault(who, []).append(sample["rps"])
    ratio = statistics.median(a / b for a, b in zip(values[PARKS], values[STOCK]))
    return [row("keepalive-tls-back-to-back",
                f"requests/s over TLS, {WORKERS} clients that don't think", "rps", values, ">= 0.97",
                ratio)]


def trip(field, seconds, repeats, say):
    """Processor time of a request whose connection comes back for it, beside one whose connection a
    worker has kept, and one that comes by a new connection; at the same rate."""
    cpu, lingerd = {}, {}
    for _ in range(repeats):
        for who in (STOCK, OFF, PLAIN, PARKS):
            load = {"rate": 400} if who == OFF else {"think": "60-140"}
            sample = _sample(field, who, seconds, say, "TLS, 400 requests/s", after_ms=0,
                             concurrency=40, **load)
            cpu.setdefault(who, []).append(sample["cpu_us"] - sample["lingerd_cpu_us"])
            lingerd.setdefault(who, []).append(sample["lingerd_cpu_us"])
    added = statistics.median(a - b for a, b in zip(cpu[PARKS], cpu[STOCK]))
    more = statistics.median(a - b for a, b in zip(lingerd[PARKS], lingerd[PLAIN]))
    return [row("keepalive-tls-trip", "processor time of httpd's for a request; a trip adds", "us",
                cpu, "<= 700", added),
            row("keepalive-tls-trip-lingerd", "processor time of lingerd's for a trip, beside a plain "
                "one", "us", {who: lingerd[who] for who in (PARKS, PLAIN)}, "<= 30", more)]
