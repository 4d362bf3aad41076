# SPDX-License-Identifier: Apache-2.0
"""What was measured as a table, as JSON and as plots."""
import json
import os
import pathlib
import platform
import resource
import shutil
import statistics
import subprocess
import time

from peers import TITLES
from servers import NGINX, places

_SCALES = {"p50_us": ("ms", 1e-3), "p99_us": ("ms", 1e-3), "cpu_us": ("µs", 1), "rps": ("/s", 1)}


def _first_line(*command):
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except OSError:
        return "not installed"
    lines = (result.stdout + result.stderr).strip().splitlines()
    return lines[0].split(": ", 1)[-1] if lines else "unknown"


def _processor():
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(": ", 1)[1]
    return platform.machine()


def environment(seconds, repeats):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "lingerd": _first_line(str(places.LINGERD), "--version"),
        "source": _first_line("git", "-C", str(places.ROOT), "describe", "--always", "--dirty"),
        "httpd": _first_line(places.HTTPD, "-v"),
        "nginx": _first_line(NGINX, "-v"),
        "system": _system_name(),
        "kernel": platform.release(),
        "machine": f"{os.cpu_count()} processors, {_processor()}, {memory / 2**30:.0f} GB",
        "descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        "seconds": seconds,
        "repeats": repeats,
    }


def _system_name():
    for line in pathlib.Path("/etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return platform.system()


def _figure(value):
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.3g}"


def _spread(values, scale=1.0):
    low, middle, high = (_figure(values[k] * scale) for k in ("min", "median", "max"))
    return middle if low == high else f"{middle} ({low}-{high})"


def _verdict(met):
    return {None: "stated", True: "yes", False: "**no**"}[met]


def comparison_table(rows):
    lines = ["| what | | | ratio | target | met |", "|---|---|---|---|---|---|"]
    for r in rows:
        unit, scale = _SCALES[r["unit"]]
        notes = f" ({r['failed']} failed)" if r["failed"] else ""
        notes += " [1]" if r["held_back"] else ""
        notes += " [2]" if r["evicted_share"] else ""
        lines.append(
            f"| {r['title']}{notes}"
            f" | {TITLES[r['left']]}: {_spread(r['left_value'], scale)} {unit}"
            f" | {TITLES[r['right']]}: {_spread(r['right_value'], scale)} {unit}"
            f" | {_spread(r['ratio'])} | {r['target'] or '-'} | {_verdict(r['met'])} |")
    if any(r["held_back"] for r in rows):
        lines.append("\n[1] The clients' limit of open descriptors held some requests back.")
    if any(r["evicted_share"] for r in rows):
        most = max(r["evicted_share"] for r in rows)
        lines.append(f"\n[2] lingerd's limit of open descriptors ended lingers before their client did, "
                     f"{most:.0%} of them at most. No client's response is touched by that.")
    return "\n".join(lines)


def single_table(rows):
    lines = ["| what | measured | target | met |", "|---|---|---|---|"]
    for r in rows:
        measured = "; ".join(f"{TITLES.get(who, who)}: {_spread(v)} {r['unit']}"
                             for who, v in r["values"].items())
        if r["value"] is not None and len(r["values"]) > 1 and r["name"] != "memory":
            measured += f"; ratio {_figure(r['value'])}"
        note = f"<br>{r['note']}" if r["note"] else ""
        lines.append(f"| {r['title']}{note} | {measured} | {r['target'] or '-'} "
                     f"| {_verdict(r['met'])} |")
    return "\n".join(lines)


def load_table(all_samples):
    """Every peer under every load, medians."""
    lines = ["| load | who | requests/s | p50 ms | p99 ms | CPU µs a request | of that lingerd "
             "| ablinger's CPU µs |", "|---|---|---|---|---|---|---|---|"]
    for load in all_samples:
        words = ", ".join([f"{load['late_ms']} ms late",
                           *(f"{k} {v:,}" for k, v in load["options"].items())])
        for name, samples in load["samples"].items():
            def middle(key, scale=1.0, samples=samples):
                return _figure(statistics.median(s[key] for s in samples) * scale)
            lines.append(
                f"| {words} | {TITLES[name]} | {middle('rps')} | {middle('p50_us', 1e-3)} "
                f"| {middle('p99_us', 1e-3)} | {middle('cpu_us')} "
                f"| {middle('lingerd_cpu_us') if name.endswith('+') else '-'} "
                f"| {middle('client_cpu_us')} |")
    return "\n".join(lines)


def markdown(facts, comparisons, all_samples, singles):
    head = "\n".join(f"| {key} | {value} |" for key, value in facts.items())
    parts = [f"| | |\n|---|---|\n{head}"]
    if comparisons:
        parts.append(comparison_table(comparisons))
    if singles:
        parts.append(single_table(singles))
    if all_samples:
        parts.append(load_table(all_samples))
    return "\n\n".join(parts) + "\n"


# ---- Plots -------------------------------------------------------------------------------------

_STYLE = """
set terminal svg size 760,420 font 'sans-serif,13' background '#ffffff'
set border 3 lc rgb '#777777'
set tics nomirror
set grid ytics lc rgb '#dddddd'
"""
_COLOURS = {"prefork": "#9aa5b1", "prefork+": "#1b7f4d", "worker": "#c9ced6", "worker+": "#7bc49a",
            "event": "#6f7fb5", "event+": "#2f4ba0", "nginx": "#d08a3c", "proxy": "#b3543a"}


def _gnuplot(script):
    subprocess.run(["gnuplot"], input=_STYLE + script, text=True, check=True)


def plot_throughput(samples, path):
    """Requests/s over how late clients close, a line for each peer."""
    usual = [s for s in samples if not s["options"] and "prefork" in s["samples"]]
    names = [n for n in _COLOURS if all(n in s["samples"] for s in usual)]
    if len(usual) < 2 or not names:
        return False
    script = [f"set output '{path}'", "set logscale y", "set ylabel 'requests/s'",
              "set xlabel 'how late the 200 clients close'", "set key outside right",
              "set format y '%.0f'", "set yrange [20:*]", "set offsets 0.2, 0.2, 0, 0"]
    lines, data = [], []
    tics = ", ".join(f"'{s['late_ms']} ms' {i}" for i, s in enumerate(usual))
    script.append(f"set xtics ({tics})")
    for name in names:
        lines.append(f"'-' with linespoints lw 2 pt 7 ps 0.7 lc rgb '{_COLOURS[name]}' "
                     f"title '{TITLES[name]}'")
        for i, s in enumerate(usual):
            values = sorted(v["rps"] for v in s["samples"][name])
            data.append(f"{i} {values[len(values) // 2]}")
        data.append("e")
    _gnuplot("\n".join([*script, "plot " + ", ".join(lines), *data]) + "\n")
    return True


def plot_bars(values, label, path, logarithmic=False):
    """`values`: (title, number) pairs."""
    script = [f"set output '{path}'", f"set ylabel '{label}'", "set style fill solid 0.85",
              "set boxwidth 0.6", "unset key", "set yrange [0:*]", "set offsets 0.4, 0.4, 0, 0"]
    if logarithmic:
        script += ["set logscale y", "set yrange [1:*]"]
    script.append("plot '-' using 0:2:xtic(1) with boxes lc rgb '#1b7f4d', "
                  "'-' using 0:2:3 with labels offset 0,0.7")
    bars = [f'"{title}" {value:.6g}' for title, value in values] + ["e"]
    words = [f'"{title}" {value:.6g} "{_figure(value)}"' for title, value in values] + ["e"]
    _gnuplot("\n".join([*script, *bars, *words]) + "\n")


def plots(samples, singles, directory):
    """The names of the files written."""
    if shutil.which("gnuplot") is None:
        return []
    written = []
    if plot_throughput(samples, directory / "throughput.svg"):
        written.append("throughput.svg")
    for r in singles:
        bars = [(TITLES.get(who, who), v["median"]) for who, v in r["values"].items()]
        if r["name"] in ("memory", "drain") and bars:
            plot_bars([(t, max(v, 1) if r["name"] == "memory" else v) for t, v in bars],
                      f"{r['title']}, {r['unit']}", directory / f"{r['name']}.svg",
                      logarithmic=r["name"] == "memory")
            written.append(f"{r['name']}.svg")
    return written


def write(directory, facts, comparisons, samples, singles):
    directory.mkdir(parents=True, exist_ok=True)
    text = markdown(facts, comparisons, samples, singles)
    (directory / "benchmarks.md").write_text(text)
    (directory / "benchmarks.json").write_text(json.dumps(
        {"environment": facts, "comparisons": comparisons, "single": singles,
         "samples": samples}, indent=1) + "\n")
    return text, plots(samples, singles, directory)
