# SPDX-License-Identifier: Apache-2.0
"""What lies in another process's memory."""
import re

_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ \S+\s*(.*)")


def mappings(pid):
    """(begin, end, name) of each that can be read."""
    with open(f"/proc/{pid}/maps", encoding="ascii", errors="replace") as lines:
        for line in lines:
            begin, end, mode, name = _LINE.match(line).groups()
            if mode[0] == "r" and name not in ("[vvar]", "[vvar_vclock]", "[vsyscall]"):
                yield int(begin, 16), int(end, 16), name


def read(pid, begin, end):
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:
        memory.seek(begin)
        return memory.read(end - begin) or b""


def found(pid, needles):
    """Those of `needles` ({name: bytes}) that are anywhere in the process's memory."""
    names = set()
    for begin, end, _ in mappings(pid):
        try:
            bytes_there = read(pid, begin, end)
        except OSError:  # a mapping of a file beyond its end
            continue
        names |= {name for name, needle in needles.items() if needle in bytes_there}
    return names


def shared(pid, least):
    """The contents of the process's anonymous shared mapping of at least so many bytes."""
    for begin, end, name in mappings(pid):
        if end - begin >= least and name.startswith("/dev/zero"):
            return read(pid, begin, end)
    raise AssertionError(f"{pid} shares no {least} bytes")
