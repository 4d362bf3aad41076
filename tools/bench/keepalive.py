# SPDX-License-Identifier: Apache-2.0
"""Clients that keep their connection and think between requests: LingerKeepAlive beside stock prefork
and event, 50 workers each."""
import statistics

from peers import measure, most_late_sockets
from single import row

CONFIG = "KeepAlive On\nKeepAliveTimeout 15\nMaxKeepAliveRequests 0\n"
PARKING = "LingerKeepAlive On"
PARKS, STOCK, EVENT = "prefork with LingerKeepAlive", "stock prefork", "stock event"
TUNED = "event, AsyncRequestWorkerFactor 400"
# As it comes, event accepts two idle connections for each idle worker.
NAMES = {PARKS: ("prefork+", PARKING, ""), STOCK: ("prefork", "", ""), EVENT: ("event", "", ""),
         TUNED: ("event", "", "AsyncRequestWorkerFactor 400\n")}
# (clients, ms that they think)
LOADS = ((400, 200), (400, 1000), (2000, 1000), (10_000, 1000), (10_000, 5000))
FOR_EVER = 1_000_000
# All clients connect at once, and what the listener's queue (511) can't take the kernel tries again
# after 1, 3 and 7 s: that is none of what is measured here.
WARM_UP, WARM_UP_CROWD, CROWD = 2, 10, 500


def _sample(field, who, seconds, **options):
    """One measurement of a server of its own: keep-alive connections of one load aren't another's."""
    name, linger, more = NAMES[who]
    peer = field.fresh(name, linger_config=linger, config=CONFIG + more)
    try:
        warm_up = WARM_UP_CROWD if options["concurrency"] > CROWD else WARM_UP
        sample = measure(peer, 0, seconds, warmup=warm_up, timeout=10, threads=1, **options)
        if linger:
            counters = peer.server.linger_counters()
            sample["parked"] = counters.get("LingerParkedTotal", 0)
            sample["return_failed"] = counters.get("LingerReturnFailed", 0)
        return sample
    finally:
        field.retire(peer)


def _say(say, title, who, sample):
    say(f"{title:22}{who:37}{sample['rps']:9,.0f} req/s  p50 {sample['p50_us'] / 1000:8.2f} ms"
        f"  p99 {sample['p99_us'] / 1000:8.2f} ms  {sample['cpu_us']:6.1f} us CPU a request"
        f"  {sample['failed']} failed, {sample.get('parked', 0)} parked")


def thinking(field, seconds, repeats, say):
    rows = []
    for clients, think in LOADS:
        if clients + 500 > most_late_sockets():
            continue
        values, notes = {}, []
        for who in NAMES:
            for _ in range(min(repeats, 3)):
                sample = _sample(field, who, seconds, concurrency=clients, keepalive=FOR_EVER,
                                 think=think)
                values.setdefault(who, []).append(sample["rps"])
                _say(say, f"{clients} think {think} ms", who, sample)
            notes.append(f"{who}: p50 {sample['p50_us'] / 1000:.2f} ms, p99 "
                         f"{sample['p99_us'] / 1000:.1f} ms, {sample['failed']} failed")
        asked = clients / (think / 1000)
        rows.append(row(f"keepalive-{clients}-{think}ms",
                        f"requests/s, {clients:,} clients that think {think} ms "
                        f"(they ask for {asked:,.0f})", "rps", values, "",
                        statistics.median(values[PARKS]) / asked, "; ".join(notes)))
    return rows


def back_to_back(field, seconds, repeats, say):
    rows = []
    for clients in (50, 400):
        values = {}
        for repeat in range(repeats):
            for who in (PARKS, STOCK) if repeat % 2 else (STOCK, PARKS):
                sample = _sample(field, who, seconds, concurrency=clients, keepalive=FOR_EVER)
                values.setdefault(who, []).append(sample["rps"])
                _say(say, f"{clients} back to back", who, sample)
        ratio = statistics.median(a / b for a, b in zip(values[PARKS], values[STOCK]))
        rows.append(row(f"keepalive-{clients}-back-to-back",
                        f"requests/s, {clients} clients that don't think", "rps", values, ">= 0.97",
                        ratio))
    return rows


def latency(field, seconds, repeats, say):
    """A request that has to come back from lingerd, beside the first one of a stock connection, at
    the same rate."""
    values = {50: {}, 99: {}}
    for _ in range(repeats):
        for who, options in ((PARKS, {"concurrency": 40, "keepalive": FOR_EVER, "think": "40-160"}),
                             (STOCK, {"concurrency": 40, "rate": 400})):
            sample = _sample(field, who, seconds, **options)
            for percent, found in values.items():
                found.setdefault(who, []).append(sample[f"p{percent}_us"])
            _say(say, "400 requests/s", who, sample)
    rows = []
    for percent, target in ((50, "<= 300"), (99, "<= 5000")):
        found = values[percent]
        added = statistics.median(a - b for a, b in zip(found[PARKS], found[STOCK]))
        rows.append(row(f"keepalive-latency-p{percent}",
                        f"latency that a stay in lingerd adds, percentile {percent}", "us", found,
                        target, added))
    return rows
