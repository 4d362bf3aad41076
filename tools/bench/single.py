# SPDX-License-Identifier: Apache-2.0
"""The rows that need an experiment of their own: memory, draining, times inside."""
import contextlib
import ctypes
import os
import pathlib
import resource
import socket
import statistics
import threading
import time

import kernel_trace
from ablinger import Load, run_load
from accounts import cpu_seconds, memory_bytes, wake_ups
from peers import TITLES, measure, most_late_sockets
from rows import meets, spread
from servers import wait_until

GIGABYTE = 10**9
LONG = "LingerTimeout 300\nLingerTime 600"  # nobody is to be timed out in the middle


def row(name, title, unit, values, target, value=None, note=""):
    """`values` maps who to what was measured, a list; `value` is what `target` is about."""
    return {"name": name, "title": title, "unit": unit,
            "values": {who: spread(v) for who, v in values.items() if v},
            "value": value, "target": target, "note": note,
            "met": None if value is None else meets(value, target)}


@contextlib.contextmanager
def lingering(peer, count, hold_seconds=300):
    """`count` clients that have their response and stay."""
    descriptors = lambda: sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in peer.pids())
    before = descriptors()
    load = Load(peer.url(), concurrency=min(count, 50), requests=count, detach=True,
                close_late=hold_seconds * 1000)
    try:
        wait_until(lambda: descriptors() >= before + count * 0.999,
                   lambda: f"{count} lingering: {descriptors() - before}")
        time.sleep(0.5)
        yield
    finally:
        load.stop()


def settle(peer):
    """Until lingerd has nothing left."""
    wait_until(lambda: peer.server.linger_counters().get("LingerQueue", 0) <= 1,
               "lingerd's queue is empty")


# ---- The load ----------------------------------------------------------------------------------

def client(field, seconds, repeats, say):
    """Whether ablinger holds the servers back."""
    values = {}
    for _ in range(repeats):
        for name, threads in (("prefork+", 1), ("prefork+", 2), ("nginx", 1)):
            sample = measure(field.get(name), 0, seconds, threads=threads)
            key = f"{TITLES[name]}, ablinger with {threads} thread{'s' * (threads > 1)}"
            values.setdefault(key, []).append(sample["rps"])
            say(f"client: {key}: {sample['rps']:,.0f} req/s, ablinger on "
                f"{sample['client_cpu_share']:.2f} processors")
    one, two = list(values.values())[:2]
    ratio = statistics.median(a / b for a, b in zip(two, one))
    return [row("client", "is ablinger the bottleneck? requests/s, clients that close at once",
                "/s", values, "", ratio)]


# ---- Memory ------------------------------------------------------------------------------------

def memory_per_connection(field, name, count):
    """(bytes a lingering connection, what the whole server has then)"""
    peer = field.fresh(name, linger_config=LONG, nginx_timeouts=("300s", "600s"))
    try:
        run_load(peer.url(), requests=2000, concurrency=50)  # what any traffic costs
        if name.endswith("+"):
            settle(peer)
        holder = peer.other_pids() if name.endswith("+") else peer.pids()
        before = memory_bytes(holder)
        with lingering(peer, count):
            during = memory_bytes(holder)
    finally:
        field.retire(peer)
    return (during - before) / count, during


def memory(field, repeats, say):
    count = min(8000, most_late_sockets())
    values, whole = {}, {}
    for _ in range(min(repeats, 3)):
        for name in ("prefork+", "nginx", "event"):
            each, during = memory_per_connection(field, name, count)
            values.setdefault(name, []).append(each)
            whole.setdefault(name, []).append(during)
            say(f"memory: {name:9} {each:9,.0f} bytes each, {during / 1e6:.1f} MB in all")
    note = "; ".join(f"{n}: {statistics.median(v) / 1e6:.1f} MB in all" for n, v in whole.items())
    return [row("memory", f"user memory of each of {count:,} lingering connections", "bytes",
                values, "<= 64", statistics.median(values["prefork+"]), note)]


# ---- Draining ----------------------------------------------------------------------------------

def bare_drain(total):
    """What the kernel takes to throw bytes away: a loop of recv(MSG_TRUNC), no server."""
    libc = ctypes.CDLL(None, use_errno=True)
    listener = socket.create_server(("127.0.0.1", 0))

    def send():
        with socket.create_connection(listener.getsockname()) as client:
            piece = b"x" * 65536
            for _ in range(total // len(piece)):
                client.sendall(piece)

    sender = threading.Thread(target=send)
    sender.start()
    server, _ = listener.accept()
    used = [0.0]

    def drain():
        while libc.recv(server.fileno(), None, ctypes.c_size_t(1 << 30), socket.MSG_TRUNC) > 0:
            pass
        used[0] = resource.getrusage(resource.RUSAGE_THREAD)

    drainer = threading.Thread(target=drain)
    drainer.start()
    sender.join()
    drainer.join()
    server.close()
    listener.close()
    return used[0].ru_utime + used[0].ru_stime


def drain_once(field, name):
    peer = field.get(name)
    pids = peer.pids()
    before = cpu_seconds(pids)
    result = run_load(peer.url(), requests=1, concurrency=1, late_bytes=GIGABYTE, timeout=60)
    time.sleep(0.5)
    if result["failed"] or result["late_cut_short"] or result["sent_bytes"] < GIGABYTE:
        raise RuntimeError(f"{name} did not drain: {result}")
    return cpu_seconds(pids) - before


def drain(field, repeats, say):
    values = {}
    for _ in range(repeats):
        for name in ("bare", "prefork+", "prefork", "event", "nginx"):
            used = bare_drain(GIGABYTE) if name == "bare" else drain_once(field, name)
            values.setdefault(name, []).append(used)
            say(f"drain: {name:9} {used:.3f} s of processor time for 1 GB")
    ratio = statistics.median(a / b for a, b in zip(values["prefork+"], values["bare"]))
    return [row("drain", "processor time to drain 1 GB that one client sends", "s", values,
                "<= 1.1", ratio, "the target is about lingerd against the bare loop")]


# ---- Times inside ------------------------------------------------------------------------------

def hook(field, seconds, say):
    if not kernel_trace.available():
        return [row("hook", "the hook, from FIN to hand-off", "us", {}, "",
                    note="not measured: needs root and bpftrace")]
    rows = []
    peer = field.get("prefork+")
    with kernel_trace.tracefs():
        for late, options, words in ((100, {"rate": 5000}, "5,000 requests/s"),
                                     (100, {}, "all workers busy"),
                                     (0, {}, "all workers busy, clients that close at once")):
            with kernel_trace.Trace(kernel_trace.handoff_program(peer.server.pids())) as trace:
                measure(peer, late, seconds, **options)
            median, high = trace.percentile(50), trace.percentile(99)
            say(f"hook: {words}: median {median} us, 99 % {high} us, {trace.count} hand-offs")
            rows += [row("hook-p50", f"from FIN to hand-off, median, {words}", "us",
                         {"prefork+": [median]}, "<= 10", median),
                     row("hook-p99", f"from FIN to hand-off, 99th percentile, {words}", "us",
                         {"prefork+": [high]}, "<= 50", high)]
    return rows


def fin_to_close(field, seconds, say):
    if not kernel_trace.available():
        return [row("fin-to-close", "from the client's FIN to lingerd's close", "ms", {}, "",
                    note="not measured: needs root and bpftrace")]
    peer = field.fresh("prefork+", linger_config=LONG)
    with kernel_trace.tracefs(), lingering(peer, min(10_000, most_late_sockets() - 500)):
        with kernel_trace.Trace(kernel_trace.fin_to_close_program(peer.server.port)) as trace:
            measure(peer, 100, seconds, rate=2000)
    field.retire(peer)
    median, high = trace.percentile(50) / 1000, trace.percentile(99) / 1000
    say(f"FIN to close: median {median:.3f} ms, 99 % {high:.3f} ms, {trace.count} closes")
    title = "from the client's FIN to lingerd's close, 10,000 in the queue, 2,000 requests/s"
    return [row("fin-to-close-p50", f"{title}, median", "ms", {"prefork+": [median]}, "<= 2",
                median),
            row("fin-to-close-p99", f"{title}, 99th percentile", "ms", {"prefork+": [high]},
                "<= 10", high)]


def lingerd_cost(peer, seconds):
    """lingerd's processor time for each connection that comes and goes, in us."""
    before, taken = cpu_seconds(peer.other_pids()), peer.server.linger_counters()["LingerTotal"]
    measure(peer, 100, seconds, rate=1000)
    taken = peer.server.linger_counters()["LingerTotal"] - taken
    return (cpu_seconds(peer.other_pids()) - before) / taken * 1e6


def flat(field, seconds, repeats, say):
    peer = field.fresh("prefork+", linger_config=LONG)
    limit = peer.server.linger_counters()["LingerQueueLimit"]
    many = min(19_000, limit - 300, most_late_sockets() + 1000) - 100
    values = {"100 in the queue": [], f"{many + 100:,} in the queue": []}
    few_key, many_key = values
    for _ in range(repeats):
        values[few_key].append(lingerd_cost(peer, seconds))
        with lingering(peer, many):
            values[many_key].append(lingerd_cost(peer, seconds))
        settle(peer)
        say(f"lingerd, us a connection: {values[few_key][-1]:.2f} with 100 in the queue, "
            f"{values[many_key][-1]:.2f} with {many + 100:,}")
    field.retire(peer)
    ratio = statistics.median(a / b for a, b in zip(values[many_key], values[few_key]))
    return [row("flat", "lingerd's processor time for each connection, 1,000 a second", "us",
                values, "<= 1.15", ratio)]


def idle(field, say):
    seconds = 10
    peer = field.fresh("prefork+")
    pid = peer.other_pids()[0]
    time.sleep(2)
    before, cpu = wake_ups(pid), cpu_seconds([pid])
    time.sleep(seconds)
    rate = (wake_ups(pid) - before) / seconds
    cpu = (cpu_seconds([pid]) - cpu) / seconds * 1e6
    threads = len(os.listdir(pathlib.Path(f"/proc/{pid}/task")))
    field.retire(peer)
    say(f"idle: {rate:.1f} wake-ups a second, {cpu:.0f} us of processor time")
    return [row("idle", "wake-ups a second of a lingerd without sockets", "1/s",
                {"lingerd": [rate]}, "<= 1.1", rate,
                f"the heartbeat; {cpu:.0f} us of processor time a second, {threads} thread(s)")]
