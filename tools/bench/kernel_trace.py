# SPDX-License-Identifier: Apache-2.0
"""Times that only the kernel sees, from bpftrace's tracepoints. Needs root and bpftrace; a tracefs
that isn't mounted is mounted for the time being."""
import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess

TRACEFS = pathlib.Path("/sys/kernel/tracing")

# From the module's FIN to the end of its hand-off, in tenths of microseconds. The processes are
# those of one httpd.
HANDOFF = """
BEGIN {{ {pids} }}
tracepoint:syscalls:sys_enter_shutdown /@ours[pid]/ {{ @fin[tid] = nsecs; }}
tracepoint:syscalls:sys_exit_sendmsg /@fin[tid]/ {{
  $d = (nsecs - @fin[tid]) / 100;
  @times[$d < 5000 ? $d : ($d < 1000000 ? $d / 1000 * 1000 : 1000000)] = count();
  delete(@fin[tid]);
}}
END {{ clear(@fin); clear(@ours); }}
"""

# From the client's FIN on a half-closed server socket (FIN_WAIT2 is 5) to the end of that socket,
# which is lingerd's close, in tenths of microseconds.
FIN_TO_CLOSE = """
tracepoint:sock:inet_sock_set_state /args->oldstate == 5 && args->sport == {port}/ {{
  @fin[args->skaddr] = nsecs;
}}
tracepoint:tcp:tcp_destroy_sock /@fin[args->skaddr]/ {{
  $d = (nsecs - @fin[args->skaddr]) / 100;
  @times[$d < 5000 ? $d : ($d < 1000000 ? $d / 1000 * 1000 : 1000000)] = count();
  delete(@fin[args->skaddr]);
}}
END {{ clear(@fin); }}
"""


def available():
    return os.geteuid() == 0 and shutil.which("bpftrace") is not None


@contextlib.contextmanager
def tracefs():
    mounted = not (TRACEFS / "events").exists()
    if mounted:
        subprocess.run(["mount", "-t", "tracefs", "nodev", str(TRACEFS)], check=True)
    try:
        yield
    finally:
        if mounted:
            subprocess.run(["umount", str(TRACEFS)], check=False)


def handoff_program(pids):
    return HANDOFF.format(pids=" ".join(f"@ours[{pid}] = 1;" for pid in pids))


def fin_to_close_program(port):
    return FIN_TO_CLOSE.format(port=port)


class Trace:
    """Runs while its `with` block does; then `percentile` answers in microseconds."""

    def __init__(self, program):
        self._program = program
        self._counts = {}

    def __enter__(self):
        environment = {**os.environ, "BPFTRACE_MAP_KEYS_MAX": "65536",
                       "BPFTRACE_NO_USER_SYMBOLS": "1"}
        self._process = subprocess.Popen(
            ["bpftrace", "-f", "json", "-e", self._program], stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True)
        line = self._process.stdout.readline()
        if "attached_probes" not in line:
            self._process.kill()
            raise RuntimeError(f"bpftrace: {line}{self._process.communicate()[1]}")
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGINT)
        output, _ = self._process.communicate(timeout=60)
        for line in output.splitlines():
            entry = json.loads(line) if line.strip() else {}
            if entry.get("type") == "map" and "@times" in entry["data"]:
                self._counts = {int(k): v for k, v in entry["data"]["@times"].items()}

    @property
    def count(self):
        return sum(self._counts.values())

    def percentile(self, percent):
        wanted, seen = self.count * percent / 100, 0
        for tenths in sorted(self._counts):
            seen += self._counts[tenths]
            if seen >= wanted:
                return tenths / 10
        return None
