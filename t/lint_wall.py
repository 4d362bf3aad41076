# SPDX-License-Identifier: Apache-2.0
"""The walls between the rooms, checked: a folder includes only those that the table names for it, pure
code nothing of the system or of httpd, and each source says its licence."""

import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent

# Every folder of the product: what it may include, whether it is pure (logic that takes the time as an
# argument and touches no socket), whether it may include httpd's headers.
BASE = {"base"}
CONTRACT = BASE | {"contract"}
REPORT = CONTRACT | {"report"}
CORE = CONTRACT | {"lingerd/core"}
IO = CORE | {"lingerd/io"}
LINK = CONTRACT | {"mod_linger/link"}
MODULE = LINK | REPORT | {"mod_linger"}
TLS_LAYER = {"mod_linger_tls/layer"}
TLS_INNER = TLS_LAYER | {"mod_linger_tls/inner"}
ROOMS = {
    # folder: (includes: folders, and single files; pure, httpd)
    "base": (BASE, False, False),
    "contract": (CONTRACT, False, False),
    "report": (REPORT, True, False),
    "lingerctl": (REPORT | {"lingerctl"}, False, False),
    "lingerd/core": (CORE, True, False),
    "lingerd/io": (IO, False, False),
    "lingerd/succession": (IO | {"lingerd/succession"}, False, False),
    "lingerd/start": (CORE | {"lingerd/start", "lingerd/succession"}, False, False),
    "lingerd": (IO | {"lingerd", "lingerd/start", "lingerd/succession"}, False, False),
    "mod_linger/link": (LINK, False, False),
    "mod_linger": (MODULE, False, True),
    "mod_linger/offload": (MODULE | {"mod_linger/offload"}, False, True),
    "mod_linger/stay": (MODULE | {"mod_linger/stay", "mod_linger/tls"}, False, True),
    "mod_linger/keepalive": (MODULE | {"mod_linger/stay", "mod_linger/keepalive", "mod_linger/tls"}, False, True),
    "mod_linger/request": (MODULE | {"mod_linger/stay", "mod_linger/request"}, False, True),
    "mod_linger_tls/layer": (TLS_LAYER, False, False),
    "mod_linger_tls/inner": (TLS_INNER, False, False),
    "mod_linger_tls": (TLS_INNER | CONTRACT | {"mod_linger_tls", "mod_linger/tls", "mod_linger/guarded.h",
                                              "mod_linger/directive.h"}, False, True),
    "mod_linger/tls": (CONTRACT | {"mod_linger/tls"}, False, True),
}
# Files that may see more than their room: the hook list names the features.
ALSO = {
    "mod_linger/mod_linger.cpp": {"mod_linger/offload", "mod_linger/stay", "mod_linger/keepalive",
                                  "mod_linger/request"},
}
# Pure files in rooms that aren't. Each must be there.
PURE = [
    "base/numbers.h", "base/numbers.cpp", "base/flags.h", "base/log_limiter.h", "base/unix_limits.h",
    "base/errors.h",
    "contract/defaults.h", "contract/record.h", "contract/record.cpp", "contract/counters.h", "contract/counter_list.h",
    "contract/stats_page.h", "contract/stats_page.cpp", "contract/stats_reader.h", "contract/module_ring.h",
    "contract/version.h",
    "lingerd/start/options.h", "lingerd/start/options.cpp",
    "mod_linger/link/obstacle.h", "mod_linger/link/obstacle.cpp",
    "contract/request_head.h", "contract/request_head.cpp", "contract/chunks.h", "contract/chunks.cpp",
    "mod_linger/request/hope.h", "mod_linger/request/read_timeout.h", "mod_linger/request/read_timeout.cpp",
    "mod_linger/request/missing.h", "mod_linger/request/missing.cpp",
    "mod_linger/keepalive/credentials.h", "mod_linger/keepalive/patience.h",
]

# The headers of C++ that reach neither the system nor a clock, a thread or a file.
PURE_HEADERS = set("""
    algorithm array atomic bit cctype cerrno charconv climits cmath compare concepts cstdarg cstddef
    cstdint cstdio cstdlib cstring deque functional initializer_list iomanip ios iterator limits list
    map memory new numeric optional ostream set span sstream stdexcept string string_view
    system_error tuple type_traits unordered_map unordered_set utility variant vector
""".split())

HTTPD = ("httpd", "http_", "ap_", "apr", "util_", "mod_", "scoreboard", "mpm_common")
SPDX = "SPDX-License-Identifier: Apache-2.0"
SPDX_SUFFIXES = {".cpp", ".h", ".py", ".mk", ".sh", ".conf", ".load", ".service", ".socket"}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.MULTILINE)


def includes(path):
    return [(match[1], match[2]) for match in INCLUDE.finditer(path.read_text())]


def sources():
    """(path, its room)"""
    for top in sorted({room.split("/")[0] for room in ROOMS}):
        for path in sorted((ROOT / top).rglob("*")):
            if path.suffix in {".h", ".cpp"}:
                yield path, str(path.parent.relative_to(ROOT))


def pure_files():
    return set(PURE) | {str(path.relative_to(ROOT)) for path, room in sources() if ROOMS[room][1]}


def check_rooms():
    pure = pure_files()
    for name in [*PURE, *ALSO]:
        if not (ROOT / name).exists():
            yield f"{name}: in a list of this lint, but there is no such file"
    for path, room in sources():
        name = path.relative_to(ROOT)
        if room not in ROOMS:
            yield f"{name}: {room} isn't in the table of rooms"
            continue
        may_include, _, httpd = ROOMS[room]
        may_include = may_include | ALSO.get(str(name), set())
        for kind, header in includes(path):
            if kind == '"' and not {header, str(pathlib.PurePath(header).parent)} & may_include:
                if not (httpd and "/" not in header):
                    yield f"{name}: {room} may not include {header}"
            if kind == "<" and not httpd and header.startswith(HTTPD):
                yield f"{name}: includes {header}: {room} knows nothing of httpd"
            if str(name) not in pure:
                continue
            if kind == "<" and header not in PURE_HEADERS:
                yield f"{name}: pure code includes <{header}>"
            # A pure file's own project headers must be pure as well.
            if kind == '"' and header not in pure:
                yield f"{name}: pure code includes {header}, which isn't"


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
    problems = [*check_rooms(), *check_licence()]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print("the walls stand")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
