# SPDX-License-Identifier: Apache-2.0
"""`make soak`: all kinds of clients at once for a long time, on prefork, worker and event in turn,
while httpd restarts gracefully, lingerd replaces itself, and lingerd is stopped for a second now
and then. No response may be lost; in the end nothing may have leaked and the counters add up.

SOAK_SECONDS  for all three together; default 600
SOAK_MPMS     default "prefork worker event"
"""
import os
import signal
import subprocess
import sys
import time

from ablinger import Load
from servers import (ABLINGER, Httpd, Peers, document_root, free_port, interrupt_on_signals,
                     memory_bytes, places, wait_until)

WORKERS = 50
CALM_SECONDS = 6  # before the first look at descriptors and memory
GROWTH_BYTES = 4_000_000  # of lingerd's memory that isn't a leak: its tables follow the queue
FILES = {"page.html": b"x" * 10240, "big.bin": b"y" * 300_000}
FATES = ("LingerHandoffs", "LingerAlreadyClosed", "LingerFallbacks", "LingerAborted",
         "LingerLeftOff")
ENDS = ("LingerClosedByClient", "LingerClosedByReset", "LingerClosedIdle", "LingerClosedCap",
        "LingerEvicted")

# (page, options of ablinger); tls where the page says so.
CLIENTS = {
    "at once": ("/page.html", {"rate": 300}),
    "late": ("/page.html", {"rate": 200, "close_late": "exp:300", "detach": True}),
    "vanish": ("/page.html", {"rate": 20, "close_late": "8000-9000", "detach": True}),
    "trickle": ("/page.html", {"rate": 20, "close_late": "500-3000", "trickle": 40,
                               "detach": True}),
    "late bytes": ("/big.bin", {"rate": 10, "late_bytes": 1000, "rcvbuf": 4096, "stall": 300,
                                "close_late": 50}),
    "read slowly": ("/big.bin", {"rate": 3, "read_rate": 200_000, "rcvbuf": 4096}),
    "upload": ("/page.html", {"rate": 10, "upload": 200_000, "status": 413}),
    "kept": ("/page.html", {"rate": 50, "keepalive": 5, "think": 20, "close_late": 100}),
    "reset": ("/page.html", {"rate": 30, "rst": True, "close_late": 20}),
    "tls": ("tls:/page.html", {"rate": 10, "close_late": 100, "until_fin": True}),
    "tls, rude": ("tls:/page.html", {"rate": 5, "close_late": "0-200", "no_close_notify": True}),
}


def say(text):
    print(text, flush=True)


def certificate(directory):
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-keyout", directory / "key.pem", "-out",
                    directory / "cert.pem"], capture_output=True, check=True)


def tls_server(directory, port):
    return f"""
LoadModule socache_shmcb_module {places.HTTPD_MODULES}/mod_socache_shmcb.so
LoadModule ssl_module {places.HTTPD_MODULES}/mod_ssl.so
SSLSessionCache none
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
  SSLEngine on
  SSLCertificateFile {directory}/cert.pem
  SSLCertificateKeyFile {directory}/key.pem
</VirtualHost>
"""


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


class Soak:
    """One MPM's turn."""

    def __init__(self, peers, mpm):
        directory = peers.directory
        self.mpm = mpm
        self.problems = []
        self.tls_port = free_port()
        self.lingerd = peers.lingerd(f"l-{mpm}")
        self.httpd = peers.add(Httpd(
            mpm, directory, document_root(directory, FILES), mpm, workers=WORKERS,
            lingerd=self.lingerd, linger_config="LingerTimeout 5\nLingerTime 30",
            config="KeepAlive On\nLimitRequestBody 100000\nSendBufferSize 1048576\n"
                   "GracefulShutdownTimeout 60\n" + tls_server(directory, self.tls_port)))
        self.httpd.start()
        self.loads = {}

    def start_clients(self, seconds):
        for name, (page, options) in CLIENTS.items():
            url = (f"https://127.0.0.1:{self.tls_port}{page[4:]}" if page.startswith("tls:")
                   else self.httpd.url(page))
            self.loads[name] = Load(url, concurrency=40, duration=seconds, **options)

    def quiet_state(self):
        """(lingerd's descriptors less httpd's connections, its memory, httpd's parent's
        descriptors), when nobody lingers."""
        wait_until(lambda: self.counters()["LingerQueue"] <= 1, "lingerd's queue is empty", 60)
        pid = self.lingerd.pid
        return {"lingerd's descriptors": descriptors(pid) - len(self.httpd.pids()),
                "lingerd's memory": memory_bytes([pid]),
                "descriptors of httpd's parent": descriptors(self.httpd.pid)}

    def counters(self):
        return self.httpd.linger_counters()

    def disturb(self, seconds):
        """Something happens every five seconds."""
        events = [("graceful restart", lambda: os.kill(self.httpd.pid, signal.SIGUSR1)),
                  ("lingerd replaces itself", self.lingerd.replace),
                  ("lingerd is stopped for a second", self.stop_for_a_second)]
        end, turn = time.monotonic() + seconds, 0
        while time.monotonic() + 5 < end and all(l.running() for l in self.loads.values()):
            time.sleep(5)
            name, happen = events[turn % len(events)]
            happen()
            turn += 1
            counters = self.counters()
            say(f"  {self.mpm}: {name}; queue {counters.get('LingerQueue', 0):,}, taken over "
                f"{counters.get('LingerTotal', 0):,}, fallbacks {counters['LingerFallbacks']:,}")

    def stop_for_a_second(self):
        self.lingerd.pause()
        time.sleep(1)
        self.lingerd.resume()

    def collect(self):
        for name, load in self.loads.items():
            result = load.result()
            bad = {kind: count for kind, count in result["errors"].items() if count}
            say(f"  {self.mpm}: {name}: {result['requests']:,} responses, "
                f"{bad if bad else 'none lost'}")
            if bad:
                self.problems.append(f"{name}: {bad}")
            if name == "tls" and result["close_notifies"] < result["requests"]:
                self.problems.append(f"tls: close_notify is missing in "
                                     f"{result['requests'] - result['close_notifies']} responses")
        self.loads = {}

    def check(self, before, after):
        for what, value in after.items():
            allowed = GROWTH_BYTES if "memory" in what else 0
            if value > before[what] + allowed:
                self.problems.append(f"{what}: {before[what]:,} before, {value:,} after")
        counters = self.counters()
        ended = counters["LingerQueue"] + sum(counters[end] for end in ENDS)
        if counters["LingerTotal"] != ended:
            self.problems.append(f"LingerTotal {counters['LingerTotal']:,} but {ended:,} ended")
        if counters["LingerRejected"]:
            self.problems.append(f"LingerRejected {counters['LingerRejected']}")
        say(f"  {self.mpm}: fates "
            + ", ".join(f"{fate[6:]} {counters[fate]:,}" for fate in FATES))

    def run(self, seconds):
        self.start_clients(CALM_SECONDS)
        self.collect()
        before = self.quiet_state()
        self.start_clients(seconds)
        self.disturb(seconds)
        self.collect()
        self.check(before, self.quiet_state())

    def stop_clients(self):
        for load in self.loads.values():
            load.stop()


def main():
    seconds = int(os.environ.get("SOAK_SECONDS") or 600)
    mpms = (os.environ.get("SOAK_MPMS") or "prefork worker event").split()
    for needed in (places.MODULE, places.LINGERD, ABLINGER):
        if not needed.exists():
            sys.exit(f"soak: {needed} isn't there: run make first")
    interrupt_on_signals()
    problems = []
    with Peers("soak") as peers:
        certificate(peers.directory)
        for mpm in mpms:
            soak = Soak(peers, mpm)
            try:
                soak.run(max(15, seconds // len(mpms)))
            finally:
                soak.stop_clients()
            problems += [f"{mpm}: {problem}" for problem in soak.problems]
            soak.httpd.stop()
    for problem in problems:
        say(f"soak: {problem}")
    say("soak: nothing lost, nothing leaked" if not problems else "soak: failed")
    return 1 if problems else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("soak: interrupted")
