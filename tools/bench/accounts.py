# SPDX-License-Identifier: Apache-2.0
"""What the kernel says of processes: their time, their memory, their descriptors."""
import contextlib
import os
import pathlib


def cpu_seconds(pids):
    """Processor time, user and system, of all threads of these processes: the scheduler's own
    account in ns, where utime and stime count ticks."""
    total = 0
    for pid in pids:
        for task in pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat"):
            total += int(task.read_text().split()[0])
    return total / 1e9


def memory_bytes(pids):
    """Anonymous memory of these processes, what they share counted once."""
    total = 0
    for pid in pids:
        for line in pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss_Anon:"):
                total += int(line.split()[1]) * 1024
    return total


def wake_ups(pid):
    """How often a process has gone to sleep by itself."""
    for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("voluntary_ctxt_switches:"):
            return int(line.split()[1])
    raise RuntimeError(f"no context switches for {pid}")


def memory_of_those_left(pids):
    """A graceful restart ends children while one looks."""
    total = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            total += memory_bytes([pid])
    return total


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))
