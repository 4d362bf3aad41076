# SPDX-License-Identifier: Apache-2.0
"""The rows of the table that come from the same load on several peers: which is compared with which,
in what, and what must hold."""
import dataclasses
import statistics


@dataclasses.dataclass(frozen=True)
class Comparison:
    name: str
    late_ms: int
    left: str
    right: str
    metric: str  # of peers.measure()
    target: str  # ">= 1.15", "<= 1.0", or empty: state it
    title: str
    options: tuple = ()  # of the load, besides the usual: ((name, value), ...)

    @property
    def load(self):
        """Comparisons with the same load share their runs."""
        return self.late_ms, self.options


LATE = (0, 20, 100, 1000)


def _late(ms):
    return f"clients that close {ms} ms late" if ms else "clients that close at once"


def _throughput(prefix, left, right, targets):
    return [Comparison(f"{prefix}-{ms}ms", ms, left, right, "rps", target,
                       f"requests/s, {_late(ms)}")
            for ms, target in zip(LATE, targets)]


COMPARISONS = [
    *_throughput("prefork", "prefork+", "prefork", (">= 1.15", ">= 7.2", ">= 33", ">= 300")),
    *_throughput("prefork-event", "prefork+", "event", (">= 1.2", ">= 1.8", ">= 1.8", ">= 1.8")),
    *_throughput("event", "event+", "event", (">= 1.0", ">= 1.45", ">= 1.45", ">= 1.5")),
    *_throughput("proxy", "prefork+", "proxy", (">= 2.4", ">= 2.4", ">= 2.4", ">= 2.1")),
    *_throughput("worker", "worker+", "worker", ("", "", "", "")),
    *_throughput("nginx", "prefork+", "nginx", ("", "", "", "")),
    Comparison("latency-p50", 0, "prefork+", "prefork", "p50_us", "<= 1.0",
               "median latency, clients that close at once"),
    Comparison("latency-p99", 0, "prefork+", "prefork", "p99_us", "<= 1.1",
               "99th percentile of latency, clients that close at once"),
    Comparison("latency-p50-rate", 0, "prefork+", "prefork", "p50_us", "",
               "median latency at 5,000 requests/s, clients that close at once",
               (("rate", 5000),)),
    Comparison("latency-p99-rate", 0, "prefork+", "prefork", "p99_us", "",
               "99th percentile at 5,000 requests/s, clients that close at once",
               (("rate", 5000),)),
    Comparison("cpu", 0, "prefork+", "prefork", "cpu_us", "<= 1.0",
               "processor time of httpd and lingerd a request, clients that close at once"),
    Comparison("php", 100, "php+", "php", "rps", "",
               "requests/s of a mod_php page of 20 KB, clients that close 100 ms late"),
]


def meets(value, target):
    """None where there is no target."""
    if not target:
        return None
    relation, bound = target.split()
    return value >= float(bound) if relation == ">=" else value <= float(bound)


def spread(values):
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def compare(comparison, samples):
    """`samples` maps a peer's name to its measurements, one per repeat; the ratio is taken pair by
    pair within a repeat."""
    left = [s[comparison.metric] for s in samples[comparison.left]]
    right = [s[comparison.metric] for s in samples[comparison.right]]
    ratios = [a / b if b else float("inf") for a, b in zip(left, right)]
    involved = samples[comparison.left] + samples[comparison.right]
    return {
        "name": comparison.name, "title": comparison.title, "unit": comparison.metric,
        "left": comparison.left, "right": comparison.right,
        "left_value": spread(left), "right_value": spread(right), "ratio": spread(ratios),
        "target": comparison.target,
        "met": meets(statistics.median(ratios), comparison.target),
        "failed": sum(s["failed"] for s in involved),
        "held_back": any(s["held_back"] for s in involved),
        "evicted_share": max(s["evicted_share"] for s in involved),
    }


def run_comparisons(field, comparisons, seconds, repeats, say):
    """(rows, samples by load and peer)."""
    rows, all_samples = [], []
    for load in dict.fromkeys(c.load for c in comparisons):
        mine = [c for c in comparisons if c.load == load]
        names = list(dict.fromkeys(n for c in mine for n in (c.right, c.left)))
        samples = run_load_on(field, names, load, seconds, repeats, say)
        rows += [compare(c, samples) for c in mine]
        all_samples.append({"late_ms": load[0], "options": dict(load[1]), "samples": samples})
    order = [c.name for c in comparisons]
    return sorted(rows, key=lambda row: order.index(row["name"])), all_samples


def run_load_on(field, names, load, seconds, repeats, say):
    """Interleaved: all peers in turn, then all again, in the other direction."""
    from peers import measure
    late_ms, options = load
    samples = {name: [] for name in names}
    for repeat in range(repeats):
        for name in names if repeat % 2 == 0 else reversed(names):
            sample = measure(field.get(name), late_ms, seconds, **dict(options))
            samples[name].append(sample)
            say(f"{late_ms:5} ms late  {name:9}{sample['rps']:10,.0f} req/s"
                f"  p50 {sample['p50_us'] / 1000:8.2f} ms  p99 {sample['p99_us'] / 1000:8.2f} ms"
                f"  {sample['cpu_us']:7.1f} us CPU a request  {sample['failed']} failed"
                f"{'  (held back)' if sample['held_back'] else ''}"
                + (f"  {sample['evicted_share']:.1%} evicted" if sample["evicted_share"] else ""))
    return samples
