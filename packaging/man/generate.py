# SPDX-License-Identifier: Apache-2.0
"""Writes the options and counters into the manuals and docs/*.md, between their BEGIN and END lines, from
what the programs say of themselves: lingerd --help and lingerctl --explain. The directives of
docs/install.md are those of mod_linger(7).

generate.py [--check] [LINGERD LINGERCTL]: --check changes nothing and fails if a page is out of date.
"""
import pathlib
import re
import subprocess
import sys
import textwrap

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BUILD = ROOT / "build"


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


def table(head, rows):
    """In Markdown, where it stands between blank lines."""
    lines = [head, ["---"] * len(head)] + [[cell.replace("|", "\\|") for cell in row] for row in rows]
    return [""] + ["| " + " | ".join(row) + " |" for row in lines] + [""]


def option_table(found):
    def row(name, value, text):
        said = re.fullmatch(r"(.*?)\s*Default: (.*)\.", text)
        # A value is one word.
        default = f"`{said[2]}`" if said and " " not in said[2] and value else said[2] if said else ""
        return [f"`--{name} {value}`" if value else f"`--{name}`", default, said[1] if said else text]
    return table(["option", "default", ""], [row(*option) for option in found])


def counter_table(found):
    return table(["number", "", "what it tells you"],
                 [[f"`{key}` `{metric}`", f"{kind}, {unit}", text]
                  for key, _, kind, unit, metric, text in found])


def directive_table(manual):
    """From the head that each directive's section in mod_linger(7) begins with."""
    def plain(text):
        return re.sub(r" Ns ", "", re.sub(r"\bAr ", "", text)).strip()
    heads = re.findall(r"^\.It Description :\n(.*)\n\.It Syntax :\n\.Cd (.*)\n\.It Default :\n(.*)\n"
                       r"\.It Context :\n(.*)$", manual, re.MULTILINE)
    rows = []
    for what, syntax, default, context in heads:
        name, _, value = plain(syntax).partition(" ")
        default = f"`{plain(default).removeprefix('.Cd ').removeprefix(name).strip()}`" \
            if default.startswith(".Cd") else ""
        only = "" if "virtual host" in context else "; main server only"
        rows.append([f"`{name} {value}`", default, what + only])
    return table(["directive", "default", ""], rows)


def parts(lingerd, lingerctl):
    """{file's suffix: {part: lines}}"""
    found = options(output(lingerd, "--help"))
    daemon, module = map(counters, output(lingerctl, "--explain").split("\nCounted by mod_linger"))
    manual = {"options": option_list(found), "keys": key_list(of_the_file(found)),
              "daemon-counters": counter_list(daemon), "module-counters": counter_list(module)}
    document = {"options": option_table(found),
                "directives": directive_table((HERE / "mod_linger.7").read_text()),
                "daemon-counters": counter_table(daemon), "module-counters": counter_table(module)}
    for name, lines in [*manual.items(), *document.items()]:
        if len(lines) < 10:
            sys.exit(f"generate.py: found nothing to write for {name}")
    return manual, document


# Their first and last lines are comments, of mdoc and of Markdown.
IN_MANUAL = re.compile(r'(^\.\\" BEGIN ([a-z-]+):.*\n)(?:.*\n)*?(^\.\\" END \2$)', re.MULTILINE)
IN_DOCUMENT = re.compile(r"(^<!-- BEGIN ([a-z-]+):.*\n)(?:.*\n)*?(^<!-- END \2 -->$)", re.MULTILINE)


def filled(text, pattern, made):
    def fill(match):
        return match[1] + "\n".join(made[match[2]]) + "\n" + match[3]
    return pattern.sub(fill, text)


def main(arguments):
    check = "--check" in arguments
    programs = [a for a in arguments if a != "--check"] or [BUILD / "lingerd", BUILD / "lingerctl"]
    manual, document = parts(*programs)
    pages = [(page, IN_MANUAL, manual) for page in sorted(HERE.glob("*.[1-8]"))]
    pages += [(page, IN_DOCUMENT, document) for page in sorted((ROOT / "docs").glob("*.md"))]
    stale = []
    for page, pattern, made in pages:
        before = page.read_text()
        after = filled(before, pattern, made)
        if before == after:
            continue
        stale.append(page.name)
        if not check:
            page.write_text(after)
    if check and stale:
        sys.exit(f"out of date, run packaging/man/generate.py: {' '.join(stale)}")


if __name__ == "__main__":
    main(sys.argv[1:])
