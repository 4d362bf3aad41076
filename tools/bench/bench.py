# SPDX-License-Identifier: Apache-2.0
"""`make bench`: real peers side by side on loopback, interleaved in one run. Writes a table, JSON
and plots to build/bench/.

BENCH_ROWS     names, or beginnings of names, separated by commas or spaces; default: all
BENCH_SECONDS  of each measurement, besides its warm-up; default 4
BENCH_REPEATS  default 5
"""
import os
import re
import shutil
import sys

import keepalive
import keepalive_tls
import offload
import peers
import report
import rows
import single
from servers import ABLINGER, NGINX, Peers, interrupt_on_signals, places

OUTPUT = places.BUILD / "bench"

SINGLE = {
    "client": single.client,
    "memory": lambda field, seconds, repeats, say: single.memory(field, repeats, say),
    "drain": lambda field, seconds, repeats, say: single.drain(field, repeats, say),
    "hook": lambda field, seconds, repeats, say: single.hook(field, seconds, say),
    "flat": single.flat,
    "fin-to-close": lambda field, seconds, repeats, say: single.fin_to_close(field, seconds, say),
    "keepalive-think": keepalive.thinking,
    "keepalive-back-to-back": keepalive.back_to_back,
    "keepalive-latency": keepalive.latency,
    "keepalive-tls-think": keepalive_tls.thinking,
    "keepalive-tls-back-to-back": keepalive_tls.back_to_back,
    "keepalive-tls-trip": keepalive_tls.trip,
    "idle": lambda field, seconds, repeats, say: single.idle(field, say),
    "offload": offload.slow,
    "offload-cost": offload.cost,
}


def say(text):
    print(text, flush=True)


def number(name, default):
    text = os.environ.get(name) or str(default)
    if not re.fullmatch(r"\d+(\.\d+)?", text) or float(text) <= 0:
        sys.exit(f"bench: {name}={text}: must be a number above 0")
    return float(text)


def chosen(wanted):
    """(comparisons, names of single rows); a name that fits none is an error."""
    every = [c.name for c in rows.COMPARISONS] + list(SINGLE)
    patterns = [w for w in re.split(r"[,\s]+", wanted) if w]
    for pattern in patterns:
        if not any(name.startswith(pattern) for name in every):
            sys.exit(f"bench: BENCH_ROWS={pattern}: there are {', '.join(every)}")

    def wants(name):
        exact = name in patterns
        return not patterns or exact or any(
            name.startswith(p) for p in patterns if p not in every)

    return [c for c in rows.COMPARISONS if wants(c.name)], [s for s in SINGLE if wants(s)]


def without_missing(comparisons, names):
    """Leaves out what can't be run here, and says so."""
    missing = set()
    if not shutil.which(NGINX):
        say("bench: no nginx here (package nginx-light): its rows are left out")
        missing |= {"nginx", "proxy"}
        names = [n for n in names if n not in ("client", "memory", "drain")]
    if not peers.php_available():
        say("bench: no mod_php here (package libapache2-mod-php): its row is left out")
        missing |= {"php", "php+"}
    return [c for c in comparisons if not missing & {c.left, c.right}], names


def main():
    for needed in (places.MODULE, places.LINGERD, ABLINGER):
        if not needed.exists():
            sys.exit(f"bench: {needed} isn't there: run make first")
    seconds, repeats = number("BENCH_SECONDS", 4), int(number("BENCH_REPEATS", 5))
    comparisons, names = without_missing(*chosen(os.environ.get("BENCH_ROWS", "")))
    facts = report.environment(seconds, repeats)
    interrupt_on_signals()
    singles = []
    with Peers("bench") as servers:
        field = peers.Field(servers)
        compared, samples = rows.run_comparisons(field, comparisons, seconds, repeats, say)
        for name in names:
            singles += SINGLE[name](field, seconds, repeats, say)
    text, plots = report.write(OUTPUT, facts, compared, samples, singles)
    say(f"\n{text}\nWritten to {OUTPUT}: benchmarks.md benchmarks.json {' '.join(plots)}")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("bench: interrupted")
