# SPDX-License-Identifier: Apache-2.0
"""Writes the options and counters into the manuals, between their BEGIN and END lines, from what the
programs say of themselves: lingerd --help and lingerctl --explain.

generate.py [--check] [LINGERD LINGERCTL]: --check changes nothing and fails if a page is out of date.
"""
import pathlib
import re
import subprocess
import sys
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
BUILD = HERE.parents[1] / "build"


def output(*command):
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout


def escape(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + text if text[:1] in ".'" else text


def sentences(text):
    """One a line, as mdoc wants it: that way the formatter spaces them."""
    return re.sub(r"(?<=[.:]) +(?=[A-Z])", "\n", text)


def paragraph(text):
    return "\n".join(escape(line) for sentence in sentences(text).splitlines()
                     for line in textwrap.wrap(sentence, 72, break_on_hyphens=False))


def options(help_text):
    """[(name, VALUE or "", text)]"""
    found = []
    for line in help_text.splitlines():
        start = re.match(r"  --([a-z-]+)(?: ([A-Z]+))?(?:\s+(.*))?$", line)
        if start:
            found.append([start[1], start[2] or "", start[3] or ""])
        elif found and line.startswith(" " * 24):
            found[-1][2] += " " + line.strip()
        elif found and not line:
            break
    return [tuple(part.strip() for part in option) for option in found]


def option_list(found):
    lines = [".Bl -tag -width Ds"]
    for name, value, text in found:
        lines += [f".It Fl -{name}" + (f" Ar {value}" if value else ""), paragraph(text)]
    return lines + [".El"]


def key_list(found):
    lines = [".Bl -tag -width Ds"]
    for name, value, text in found:
        lines += [f".It Cm {name} = " + (f"Ar {value}" if value else "Ar yes | no"), paragraph(text)]
    return lines + [".El"]


def of_the_file(found):
    """Those in front of --config are also keys."""
    names = [name for name, _, _ in found]
    return found[:names.index("config")]


def counters(explained):
    """[(key, label, type, unit, metric, help)] of one part of lingerctl --explain."""
    entry = re.compile(r"^(\w+) \((.+?); (\w+), (\w+); (\w+)\)\n {4}(.+)$", re.MULTILINE)
    return entry.findall(explained)


def counter_list(found):
    lines = [".Bl -tag -width Ds"]
    for key, _, kind, unit, metric, text in found:
        lines += [f".It Cm {key}", f".Pq {kind}, {unit}; {metric}", ".br", paragraph(text)]
    return lines + [".El"]


def parts(lingerd, lingerctl):
    found = options(output(lingerd, "--help"))
    daemon, module = output(lingerctl, "--explain").split("\nCounted by mod_linger")
    made = {"options": option_list(found), "keys": key_list(of_the_file(found)),
            "daemon-counters": counter_list(counters(daemon)),
            "module-counters": counter_list(counters(module))}
    for name, lines in made.items():
        if len(lines) < 10:
            sys.exit(f"generate.py: found nothing to write for {name}")
    return made


def filled(text, made):
    def fill(match):
        return match[1] + "\n".join(made[match[2]]) + "\n" + match[3]
    pattern = re.compile(r'(^\.\\" BEGIN ([a-z-]+):.*\n)(?:.*\n)*?(^\.\\" END \2$)', re.MULTILINE)
    return pattern.sub(fill, text)


def main(arguments):
    check = "--check" in arguments
    programs = [a for a in arguments if a != "--check"] or [BUILD / "lingerd", BUILD / "lingerctl"]
    made = parts(*programs)
    stale = []
    for page in sorted(HERE.glob("*.[1-8]")):
        before = page.read_text()
        after = filled(before, made)
        if before == after:
            continue
        stale.append(page.name)
        if not check:
            page.write_text(after)
    if check and stale:
        sys.exit(f"out of date, run packaging/man/generate.py: {' '.join(stale)}")


if __name__ == "__main__":
    main(sys.argv[1:])
