# SPDX-License-Identifier: Apache-2.0
"""lint_includes.py FILE COMPILER-FLAGS...: each file includes what it uses, so that it doesn't depend on
what the standard library's headers of one release happen to include. Names of C++'s and of our own
are judged; the system's, httpd's and APR's come by way of headers that collect others. What a
source's own header includes counts. FIX=1 adds what is missing."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

CONFIG = "{Checks: '-*,misc-include-cleaner'}"
# clang-tidy has this check since 17.
TOOLS = ("clang-tidy-19", "clang-tidy")
JUDGED = re.compile(r"std::|lingerd::|u?int\d+_t$|U?INT\d*_(MAX|MIN)$|offsetof$|size_t$")
# The library's own parts, which clang-tidy doesn't know by their public names.
PARTS = {"<bits/ranges_algo.h>": "<algorithm>", "<bits/ranges_util.h>": "<ranges>"}
INCLUDE = re.compile(r"^#include ([<\"][^>\"]+[>\"])", re.MULTILINE)


def own_includes(path):
    """The #include lines of the header that belongs to a source."""
    header = path.with_suffix(".h")
    if path.suffix == ".h" or not header.exists():
        return []
    return [f"#include {name}\n" for name in INCLUDE.findall(header.read_text())]


def diagnose(path, flags, directory):
    """What clang-tidy has found, and the text that it has found it in."""
    text = "".join(own_includes(path)) + path.read_text()
    copy, fixes = directory / path.name, directory / "fixes.yaml"
    copy.write_text(text)
    tool = next(filter(shutil.which, TOOLS))
    done = subprocess.run(
        [tool, "--quiet", f"--config={CONFIG}", f"--export-fixes={fixes}", str(copy), "--",
         *(["-xc++"] if path.suffix == ".h" else []), *flags],
        capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}")
    if not fixes.exists():
        return [], text
    import yaml  # takes as long as the rest of this program, and most files need none
    return yaml.safe_load(fixes.read_text()).get("Diagnostics", []), text


def missing_includes(path, flags):
    """(line, name, header that has it, or "" where that has been said before)"""
    with tempfile.TemporaryDirectory() as directory:
        found, text = diagnose(path, flags, pathlib.Path(directory))
    for one in found:
        message = one["DiagnosticMessage"]
        name = re.match(r'no header providing "([^"]+)"', message["Message"])
        header = INCLUDE.search("".join(r["ReplacementText"] for r in message["Replacements"]))
        header = PARTS.get(header[1], header[1]) if header else ""
        if name and JUDGED.match(name[1]) and f"#include {header}\n" not in text:
            line = text.encode().count(b"\n", 0, message["FileOffset"]) + 1
            yield line - len(own_includes(path)), name[1], header


def kind(header):
    """"ours", <system.h> or <standard>: each has a block of its own in a file."""
    return header[0], "." in header or "/" in header


def add(path, headers):
    """Beside the others of its kind; clang-format sorts them. A source's own header stands alone."""
    text = path.read_text()
    for header in headers:
        alike = [match for match in INCLUDE.finditer(text)
                 if kind(match[1]) == kind(header) and match[1] != f'"{path.with_suffix(".h")}"']
        before, after = ("\n", "") if alike else ("", "\n\n")
        place = alike[-1].end() if alike else text.index("#include")
        text = f"{text[:place]}{before}#include {header}{after}{text[place:]}"
    path.write_text(text)
    subprocess.run(["clang-format", "-i", str(path)], check=True)


def main():
    path, flags = pathlib.Path(sys.argv[1]), sys.argv[2:]
    missing = list(missing_includes(path, flags))
    if os.environ.get("FIX"):
        add(path, sorted({header for _, _, header in missing if header}))
        return 0
    for line, name, header in missing:
        print(f"{path}:{line}: {name} comes from a header that isn't included here"
              + (f": {header}" if header else ""), file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
