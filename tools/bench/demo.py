# SPDX-License-Identifier: Apache-2.0
"""Stock httpd beside httpd with lingerd: the same 20 processes, the same clients that close late.
Then serves on DEMO_PORT (8080) until Ctrl-C, or for DEMO_SECONDS."""
import os
import shutil
import statistics
import sys
import threading
import time

from ablinger import Load
from servers import (ABLINGER, Httpd, Peers, document_root, interrupt_on_signals, places,
                     port_is_free)

PROCESSES = 20
CLIENTS = 40
LATE_MS = 500
MEASURE_SECONDS = 3
BACKGROUND = {"concurrency": 40, "rate": 60, "close_late": "exp:1500", "detach": True}

INDEX = b"""<!DOCTYPE html><html lang="en"><meta charset="utf-8"><title>lingerd demo</title>
<body style="font: 1rem/1.5 sans-serif; max-width: 40em; margin: 3em auto; padding: 0 1em">
<h1>httpd with lingerd</h1>
<p>Twenty prefork processes and one lingerd. Some clients close their connections late; look at
<a href="/server-status?refresh=1">server-status</a> to see where those wait.</p>
"""
PAGE = b"<!DOCTYPE html><title>page</title><p>" + b"ten kilobytes of page " * 470


def styled(text, code):
    return f"\033[{code}m{text}\033[0m" if sys.stdout.isatty() else text


def say(text=""):
    print(text, flush=True)


def fail(text):
    sys.exit(f"demo: {text}")


def setting(name, default, lowest, highest):
    text = os.environ.get(name) or str(default)
    if not text.isdigit() or not lowest <= int(text) <= highest:
        fail(f"{name}={text}: must be a number from {lowest} to {highest}")
    return int(text)


class Watcher(threading.Thread):
    """Asks for server-status again and again while the load runs. On a stock httpd whose processes
    all linger it waits its turn as any client does."""

    def __init__(self, httpd):
        super().__init__(daemon=True)
        self.closing = []  # processes in state C
        self.queue = []
        self.waited = []  # seconds
        self._httpd = httpd
        self._over = threading.Event()

    def run(self):
        while not self._over.wait(0.1):
            asked = time.monotonic()
            try:
                status = self._httpd.status(timeout=10)
            except OSError:
                continue
            if self._over.is_set():
                return
            self.waited.append(time.monotonic() - asked)
            self.closing.append(status["Scoreboard"].count("C"))
            if "LingerQueue" in status:
                self.queue.append(int(status["LingerQueue"]))

    def stop(self):
        self._over.set()
        self.join(15)


def late_sockets_allowed(httpd):
    """A small descriptor limit shall not turn into evictions: that is another demonstration."""
    limit = httpd.linger_counters().get("LingerQueueLimit")
    return int(limit * 0.8) if limit else None


def measure(httpd):
    watcher = Watcher(httpd)
    load = Load(httpd.url("/page.html"), concurrency=CLIENTS, duration=MEASURE_SECONDS,
                warmup=0.7, close_late=LATE_MS, detach=True,
                max_late=late_sockets_allowed(httpd))
    try:
        watcher.start()
        result = load.result()
    finally:
        load.stop()
        watcher.stop()
    return result, watcher


def number(value):
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def milliseconds(seconds):
    return f"{number(seconds * 1000)} ms"


def column(measured):
    """The figures of one httpd, as text."""
    result, watcher = measured
    closing = statistics.mean(watcher.closing) if watcher.closing else None
    return [
        number(result["requests_per_second"]),
        milliseconds(result["latency_us"]["p50"] / 1e6),
        "not answered" if closing is None else f"{closing:.1f} of {PROCESSES}",
        milliseconds(statistics.median(watcher.waited)) if watcher.waited else "not answered",
        f"{result['failed']}",
    ]


LABELS = ["requests per second", "median time of a request", "processes in state C (closing)",
          "server-status itself took", "failed requests"]


def print_comparison(stock, lingering, counters):
    rows = list(zip(LABELS, column(stock), column(lingering)))
    queue = max(lingering[1].queue, default=0)
    rows += [("sockets in lingerd's queue", "-", f"{queue:,}"),
             ("sockets that lingerd took over", "-", f"{counters.get('LingerTotal', 0):,}"),
             ("worker time freed so far", "-",
              f"{counters.get('LingerWorkerMillisFreed', 0) / 1000:,.0f} s")]
    say()
    say(styled(f"  {'':32}{'stock httpd':>18}{'with lingerd':>18}", "1"))
    say("  " + "─" * 68)
    for label, left, right in rows:
        say(f"  {label:32}{left:>18}{styled(f'{right:>18}', '32')}")
    say("  " + "─" * 68)
    before, after = (m[0]["requests_per_second"] for m in (stock, lingering))
    if before > 0:
        say(styled(f"  {after / before:,.0f} times as many requests", "1;32")
            + f" from the same {PROCESSES} processes.")
    say()


def live_line(counters):
    if counters.get("LingerUp") != 1 or "LingerQueue" not in counters:
        return "lingerd is down: Apache lingers itself"
    return (f"queue {counters['LingerQueue']:,} (peak {counters['LingerQueuePeak']:,})   "
            f"taken over {counters['LingerTotal']:,}   "
            f"closed by the client {counters['LingerClosedByClient']:,}   "
            f"worker time freed {counters['LingerWorkerMillisFreed'] / 1000:,.0f} s")


def serve(httpd, seconds):
    """A gentle load keeps the figures moving."""
    say(f"  Serving: {styled(httpd.url('/'), '4')}")
    say(f"  Status:  {styled(httpd.url('/server-status'), '4')}"
        f"   (for programs: {httpd.url('/server-status?auto')})")
    say(f"  {'Ends by itself in ' + str(seconds) + ' s.' if seconds else 'Ctrl-C ends it.'}\n")
    end = time.monotonic() + seconds if seconds else float("inf")
    on_terminal = sys.stdout.isatty()
    load = Load(httpd.url("/page.html"), duration=10**9, **BACKGROUND)
    try:
        time.sleep(min(1, seconds or 1))  # so that the first line has something to tell
        while time.monotonic() < end:
            line = live_line(httpd.linger_counters())
            if on_terminal:
                width = shutil.get_terminal_size().columns - 3
                print(f"\r\033[K  {line[:width]}", end="", flush=True)
            else:
                say(f"  {line}")
            time.sleep(min(0.5 if on_terminal else 2.0, max(0.0, end - time.monotonic())))
    finally:
        load.stop()
        if on_terminal:
            say()


def demonstrate(port, seconds):
    with Peers("demo") as peers:
        www = document_root(peers.directory, {"index.html": INDEX, "page.html": PAGE})
        config = "DirectoryIndex index.html\nAddType text/html .html"
        lingerd = peers.lingerd("lingerd")
        stock = peers.add(Httpd("stock", peers.directory, www, "prefork", workers=PROCESSES))
        lingering = peers.add(Httpd("lingering", peers.directory, www, "prefork", port=port,
                                    workers=PROCESSES, lingerd=lingerd, config=config))
        stock.start()
        lingering.start()
        say(f"  {CLIENTS} clients ask for a page of {len(PAGE) // 1024} KB, and close "
            f"{LATE_MS} ms after they have it; {MEASURE_SECONDS} s each.")
        stock_measured = measure(stock)
        lingering_measured = measure(lingering)
        stock.stop()
        print_comparison(stock_measured, lingering_measured, lingering.linger_counters())
        serve(lingering, seconds)


def main():
    port = setting("DEMO_PORT", 8080, 1, 65535)
    seconds = setting("DEMO_SECONDS", 0, 0, 10**7)
    for needed in (places.MODULE, places.LINGERD, ABLINGER):
        if not needed.exists():
            fail(f"{needed} isn't there: run make first")
    if not port_is_free(port):
        fail(f"port {port} is taken; choose another one: make demo DEMO_PORT=8081")

    interrupt_on_signals()
    say(styled("lingerd: who waits for clients that close late?", "1"))
    try:
        demonstrate(port, seconds)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
