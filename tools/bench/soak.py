# SPDX-License-Identifier: Apache-2.0
"""`make soak`: real connections, plain and TLS, of clients of all kinds at once, through prefork and
event in turn, while httpd restarts gracefully, lingerd hands over to its successor (SIGUSR2)
and is stopped for a moment now and then. Every response is compared byte for byte; in the end the servers' counters
add up exactly to the connections that the clients made, and nothing has leaked.

SOAK_CONNECTIONS  for all together; default 200000
SOAK_RATE         a second, at most; default 1500
SOAK_MPMS         default "prefork event"
"""
import contextlib
import math
import os
import signal
import subprocess
import sys
import time

from ablinger import Load
from accounts import descriptors, memory_bytes, memory_of_those_left
from servers import (ABLINGER, Httpd, Peers, document_root, free_port, interrupt_on_signals, places,
                     wait_until)

WORKERS = 50
QUEUE = 278  # hand-offs of a child, at least, that wait for a lingerd that is stopped
EVENT_SECONDS = 5  # something happens so often, or six times in all
WARM_UP = 1000  # connections before the first look at descriptors and memory
# Of memory that isn't a leak: lingerd's tables follow its queue; httpd's parent reads its
# configuration again with each graceful restart.
GROWTH = {"lingerd's memory": 2_000_000, "memory of httpd's parent": 4_000_000}
TOO_MUCH = b"that is too much\n"
FILES = {"page.html": b"".join(b"%08d" % i for i in range(1280)),
         "big.bin": b"".join(b"%08d" % i for i in range(37_500)), "too-much.txt": TOO_MUCH}
FATES = ("LingerHandoffs", "LingerAlreadyClosed", "LingerFallbacks", "LingerAborted")
ENDS = ("LingerClosedByClient", "LingerClosedByReset", "LingerClosedIdle", "LingerClosedCap",
        "LingerEvicted")
SANITIZED = any(name in str(places.LINGERD) for name in ("asan", "tsan"))

# Their share of all connections in percent, page, options of ablinger; tls where the page says so.
CLIENTS = {
    "at once": (41.7, "/page.html", {}),
    "late": (22, "/page.html", {"close_late": "exp:300", "detach": True}),
    "stay": (8, "/page.html", {"close_late": "exp:3000", "detach": True}),
    "vanish": (1, "/page.html", {"close_late": "8000-9000", "detach": True}),
    # Less than the 2 s that a child of event's lets its own lingers have once it is to end.
    "trickle": (2, "/page.html", {"close_late": "500-1500", "trickle": 40, "detach": True}),
    "late bytes": (2, "/big.bin", {"late_bytes": 1000, "rcvbuf": 4096, "stall": 300,
                                   "close_late": 50}),
    "read slowly": (0.3, "/big.bin", {"read_rate": 200_000, "rcvbuf": 4096}),
    "upload": (2, "/page.html", {"upload": 200_000, "status": 413}),
    "kept": (5, "/page.html", {"keepalive": 5, "think": 20, "close_late": 100}),
    "reset": (4, "/page.html", {"rst": True, "close_late": 20}),
    "tls": (8, "tls:/page.html", {"close_late": 100, "until_fin": True}),
    "tls, rude": (4, "tls:/page.html", {"close_late": "0-200", "no_close_notify": True}),
}


def say(text):
    print(text, flush=True)


def certificate(directory):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                    "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-keyout", directory / "key.pem", "-out", directory / "cert.pem"],
                   capture_output=True, check=True)


def more_servers(directory, tls_port, status_port):
    return f"""
ErrorDocument 413 "{TOO_MUCH.decode()[:-1]}\\n"
LoadModule socache_shmcb_module {places.HTTPD_MODULES}/mod_socache_shmcb.so
LoadModule ssl_module {places.HTTPD_MODULES}/mod_ssl.so
SSLSessionCache none
Listen 127.0.0.1:{tls_port}
<VirtualHost 127.0.0.1:{tls_port}>
  SSLEngine on
  SSLCertificateFile {directory}/cert.pem
  SSLCertificateKeyFile {directory}/key.pem
</VirtualHost>
# Looks at the counters don't change those of the clients.
Listen 127.0.0.1:{status_port}
<VirtualHost 127.0.0.1:{status_port}>
  Linger Off
</VirtualHost>
"""


class Soak:
    """One MPM's turn."""

    def __init__(self, peers, mpm):
        self.directory = peers.directory
        self.mpm = mpm
        self.problems = []
        self.tls_port, status_port = free_port(), free_port()
        self.lingerd = peers.lingerd(f"l-{mpm}")
        self.httpd = peers.add(Httpd(
            mpm, self.directory, document_root(self.directory, FILES), mpm, workers=WORKERS,
            lingerd=self.lingerd, linger_config="LingerTimeout 5\nLingerTime 30",
            config="KeepAlive On\nLimitRequestBody 100000\nSendBufferSize 1048576\n"
                   "GracefulShutdownTimeout 60\n"
                   + more_servers(self.directory, self.tls_port, status_port)))
        self.httpd.status_port = status_port
        self.httpd.start()
        self.loads = {}
        self.samples = []
        self.cut_short = 0  # clients that were reset after they had their response
        self.begun = time.monotonic()

    def start_clients(self, connections, rate):
        """At least so many connections, of each kind its share."""
        for name, (percent, page, options) in CLIENTS.items():
            url = (f"https://127.0.0.1:{self.tls_port}{page[4:]}" if page.startswith("tls:")
                   else self.httpd.url(page))
            body = "too-much.txt" if "status" in options else page.rpartition("/")[2]
            count = math.ceil(connections * percent / 100)
            self.loads[name] = Load(url, concurrency=40, rate=max(0.5, rate * percent / 100),
                                    requests=count * options.get("keepalive", 1),
                                    body=self.directory / "www" / body, **options)

    def collect(self):
        """Waits for the clients: how many connections they made."""
        connections = 0
        for name, load in self.loads.items():
            result = load.result()
            bad = {kind: count for kind, count in result["errors"].items() if count}
            self.cut_short += result["late_cut_short"]
            if name == "tls" and result["close_notifies"] < result["requests"]:
                bad["without close_notify"] = result["requests"] - result["close_notifies"]
            say(f"  {self.mpm}: {name}: {result['connections']:,} connections, "
                f"{result['requests']:,} responses as they should be; "
                f"{bad if bad else 'no error'}")
            if bad:
                self.problems.append(f"{name}: {bad}")
            connections += result["connections"]
        self.loads = {}
        return connections

    def counters(self):
        return self.httpd.linger_counters()

    def settled(self):
        """The counters when no connection is open any more but the one that asks."""
        def quiet():
            status = self.httpd.status()
            return status["BusyWorkers"] == "1" and status.get("LingerQueue") == "0"

        wait_until(quiet, "all connections have ended", 90)
        return self.counters()

    def footprint(self):
        return {"lingerd's descriptors": descriptors(self.lingerd.pid) - len(self.httpd.pids()),
                "lingerd's memory": memory_bytes([self.lingerd.pid]),
                "descriptors of httpd's parent": descriptors(self.httpd.pid),
                "memory of httpd's parent": memory_bytes([self.httpd.pid])}

    # ---- What happens meanwhile ----

    def graceful(self):
        os.kill(self.httpd.pid, signal.SIGUSR1)

    def stop_for_a_moment(self, rate):
        """For as long as the sockets between the two hold what comes meanwhile: a second at most."""
        self.lingerd.pause()
        time.sleep(min(1, QUEUE / 3 * self.httpd.children_count / rate))
        self.lingerd.resume()

    def event(self, turn, rate):
        """lingerd is replaced twice a minute, so that a leak has time to show."""
        if turn % 6 == 1:
            return "SIGUSR2", self.lingerd.replace
        if turn % 2 == 0:
            return "graceful restart", self.graceful
        return "lingerd stopped for a moment", lambda: self.stop_for_a_moment(rate)

    def disturb(self, connections, rate):
        pause = min(EVENT_SECONDS, connections / rate / 6)
        turn = 0
        while any(load.running() for load in self.loads.values()):
            time.sleep(pause)
            name, happen = self.event(turn, rate)
            happen()
            turn += 1
            self.sample(name)
        say(f"  {self.mpm}: {turn} restarts and stops")

    def sample(self, name):
        counters = self.counters()
        done = sum(counters[fate] for fate in FATES)
        memory = memory_bytes([self.lingerd.pid])
        everything = memory_of_those_left(self.httpd.pids())
        self.samples.append(memory)
        say(f"  {self.mpm}: {time.monotonic() - self.begun:5.0f} s: {done:9,} closed, "
            f"{counters.get('LingerQueue', 0):5,} linger, {counters['LingerFallbacks']} fallbacks; "
            f"lingerd {memory / 1e6:.2f} MB, {descriptors(self.lingerd.pid)} descriptors; httpd "
            f"{everything / 1e6:.1f} MB, parent {memory_bytes([self.httpd.pid]) / 1e6:.2f} MB, "
            f"{descriptors(self.httpd.pid)} descriptors; {name}")

    # ---- What must hold ----

    def expect_equal(self, what, found, expected):
        if found == expected:
            say(f"  {self.mpm}: {what}: {found:,}, exactly")
        else:
            self.problems.append(f"{what}: {found:,}, should be {expected:,}")

    def check_counters(self, before, after, connections):
        grown = {key: after[key] - before[key] for key in (*FATES, *ENDS, "LingerTotal",
                                                           "LingerRejected")}
        self.expect_equal("fates of connections counted by httpd, connections by the clients",
                          sum(grown[fate] for fate in FATES), connections)
        self.expect_equal("sockets taken over by lingerd, hand-offs by httpd",
                          grown["LingerTotal"], grown["LingerHandoffs"])
        self.expect_equal("ends of lingers, sockets taken over",
                          sum(grown[end] for end in ENDS), grown["LingerTotal"])
        self.expect_equal("sockets evicted or refused",
                          grown["LingerEvicted"] + grown["LingerRejected"], 0)
        # Stock event resets one in some twenty clients that trickle while it lingers itself.
        say(f"  {self.mpm}: reset after the response: {self.cut_short:,}, where Apache lingered itself "
            f"{grown['LingerFallbacks']:,} times")
        if self.cut_short > grown["LingerFallbacks"]:
            self.problems.append(f"{self.cut_short:,} clients were reset after the response")
        say(f"  {self.mpm}: " + ", ".join(f"{key[6:]} {value:,}" for key, value in grown.items()))

    def grown(self, before):
        """What is larger than before, by more than it may be."""
        return {what: value for what, value in self.footprint().items()
                if value > before[what] + GROWTH.get(what, 0)
                and not (SANITIZED and "memory" in what)}

    def check_footprint(self, before):
        # The last graceful restart may not be quite over.
        with contextlib.suppress(AssertionError):
            wait_until(lambda: not self.grown(before), "as before", 20)
        for what, value in self.footprint().items():
            say(f"  {self.mpm}: {what}: {before[what]:,} before, {value:,} after")
        self.problems += [f"{what}: {before[what]:,} before, {value:,} after"
                          for what, value in self.grown(before).items()]
        half = len(self.samples) // 2
        early, late = max(self.samples[:half], default=0), max(self.samples[half:], default=0)
        if half > 3 and not SANITIZED and late > early + GROWTH["lingerd's memory"]:
            self.problems.append(f"lingerd's memory grew from {early:,} to {late:,}")

    def run(self, connections, rate):
        self.start_clients(min(WARM_UP, connections), rate)
        self.collect()
        before, footprint = self.settled(), self.footprint()
        self.start_clients(connections, rate)
        self.disturb(connections, rate)
        made = self.collect()
        self.check_counters(before, self.settled(), made)
        self.check_footprint(footprint)
        return made

    def stop_clients(self):
        for load in self.loads.values():
            load.stop()


def main():
    connections = int(os.environ.get("SOAK_CONNECTIONS") or 200_000)
    rate = float(os.environ.get("SOAK_RATE") or 1500)
    mpms = (os.environ.get("SOAK_MPMS") or "prefork event").split()
    for needed in (places.MODULE, places.LINGERD, ABLINGER):
        if not needed.exists():
            sys.exit(f"soak: {needed} isn't there: run make first")
    interrupt_on_signals()
    problems, made = [], 0
    with Peers("soak") as peers:
        certificate(peers.directory)
        for mpm in mpms:
            soak = Soak(peers, mpm)
            try:
                made += soak.run(math.ceil(connections / len(mpms)), rate)
            finally:
                soak.stop_clients()
            problems += [f"{mpm}: {problem}" for problem in soak.problems]
            soak.httpd.stop()
    for problem in problems:
        say(f"soak: {problem}")
    say(f"soak: {made:,} connections: "
        + ("failed" if problems else "nothing lost, nothing leaked"))
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("soak: interrupted")
