# SPDX-License-Identifier: Apache-2.0
"""The walls between the rooms, checked: pure code includes nothing of the system or of httpd,
mod_linger/ takes from lingerd/ only the contract, and each source says its licence."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Logic that takes the time as an argument and touches no socket. A name that ends in * may match
# several files; each name must match one.
PURE = [
    "lingerd/record.h", "lingerd/record.cpp",
    "lingerd/counters.h",
    "lingerd/stats_page.h", "lingerd/stats_page.cpp",
    "lingerd/report*",
    "lingerd/deadlines.*",
    "lingerd/delivery.*",
    "lingerd/drain.*",
    "lingerd/lingerer.*",
    "lingerd/options.*",
    "lingerd/carry.*",
    "lingerd/log_limiter.h",
    "lingerd/module_ring.h",
    "mod_linger/obstacle.h",
]

# The headers of C++ that reach neither the system nor a clock, a thread or a file.
PURE_HEADERS = set("""
    algorithm array atomic bit cctype cerrno charconv climits cmath compare concepts cstdarg cstddef
    cstdint cstdio cstdlib cstring deque functional initializer_list iomanip ios iterator limits list
    map memory new numeric optional ostream set span sstream stdexcept string string_view
    system_error tuple type_traits unordered_map unordered_set utility variant vector
""".split())

# What the module may know of the daemon.
CONTRACT = {"record.h", "counters.h", "stats_page.h", "stats_reader.h", "report.h", "module_ring.h",
            "unique_fd.h", "version.h"}

SPDX = "SPDX-License-Identifier: Apache-2.0"
SPDX_SUFFIXES = {".cpp", ".h", ".py", ".mk", ".sh", ".conf", ".load", ".service", ".socket"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def includes(path):
    return [(match[1], match[2]) for match in INCLUDE.finditer(path.read_text())]


def pure_files():
    for pattern in PURE:
        found = sorted(ROOT.glob(pattern))
        if not found:
            yield f"{pattern}: in the list of pure files, but there is no such file", None
        for path in found:
            yield None, path


def check_pure(pure):
    names = {str(path.relative_to(ROOT)) for path in pure}
    for path in pure:
        for kind, header in includes(path):
            if kind == "<" and header not in PURE_HEADERS:
                yield f"{path.relative_to(ROOT)}: pure code includes <{header}>"
            # A pure file's own project headers must be pure as well.
            if kind == '"' and header not in names:
                yield f"{path.relative_to(ROOT)}: pure code includes {header}, which isn't"


def check_module():
    for path in sorted((ROOT / "mod_linger").glob("*")):
        if path.suffix not in {".h", ".cpp"}:
            continue
        for _, header in includes(path):
            if header.startswith("lingerd/") and header.removeprefix("lingerd/") not in CONTRACT:
                yield f"{path.relative_to(ROOT)}: includes {header}, which isn't in the contract"
    for path in sorted((ROOT / "lingerd").glob("*")):
        if path.suffix not in {".h", ".cpp"}:
            continue
        for _, header in includes(path):
            if header.startswith(("mod_linger/", "httpd", "http_", "ap_", "apr_")):
                yield f"{path.relative_to(ROOT)}: lingerd includes {header}"


def check_licence():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
                            cwd=ROOT, check=True, capture_output=True, text=True).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        if path.suffix not in SPDX_SUFFIXES and path.name != "Makefile":
            continue
        if SPDX not in "".join(path.read_text().splitlines(keepends=True)[:3]):
            yield f"{name}: no SPDX line"


def main():
    found = list(pure_files())
    problems = [problem for problem, _ in found if problem]
    problems += check_pure([path for _, path in found if path])
    problems += check_module()
    problems += check_licence()
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print("the walls stand")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
