# SPDX-License-Identifier: Apache-2.0
"""The manuals are well-formed and say what the programs and the module say."""
import re
import shutil
import subprocess
import sys

import pytest

from harness import lingerctl, places

MAN = places.ROOT / "packaging" / "man"
PAGES = ("lingerd.8", "lingerctl.8", "lingerd.conf.5", "mod_linger.7")
SOURCE = places.ROOT / "mod_linger"

# What the shipped linger.conf shows commented out although it isn't the default.
EXAMPLES = ("LingerOffload On", "LingerOffloadClose 256K", "LingerOffloadTimeout 60",
            "LingerKeepAlive On", "LingerKeepAliveTLS On", "LingerRequest On")


def directives(module="mod_linger"):
    return re.findall(r'directive\(\s*"(\w+)"', (places.ROOT / module / "settings.cpp").read_text())


def text_of(page):
    """As a reader sees it, in one line."""
    shown = subprocess.run(["mandoc", "-T", "ascii", "-O", "width=1000", MAN / page],
                           capture_output=True, text=True, check=True, timeout=30).stdout
    return re.sub(r"\s+", " ", re.sub(r".\x08", "", shown))


needs_mandoc = pytest.mark.skipif(shutil.which("mandoc") is None, reason="no mandoc")


def test_there_are_no_others():
    assert sorted(path.name for path in MAN.glob("*.[1-8]")) == sorted(PAGES)


@needs_mandoc
@pytest.mark.parametrize("page", PAGES)
def test_mandoc_has_nothing_to_say(page):
    # From their own directory, where it finds the others that a page refers to.
    result = subprocess.run(["mandoc", "-T", "lint", page], capture_output=True, text=True,
                            timeout=30, check=False, cwd=MAN)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_options_and_counters_are_the_programs_own():
    result = subprocess.run(
        [sys.executable, MAN / "generate.py", "--check", places.LINGERD, places.LINGERCTL],
        capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr


@needs_mandoc
def test_lingerctl_has_the_same_options_and_defaults_in_help_and_manual():
    usage = lingerctl.print_of("--help")
    manual = text_of("lingerctl.8")
    options = re.findall(r"^  (--[a-z]+(?: [A-Z]+)?)(?: |$)", usage, re.MULTILINE)
    assert len(options) == 10
    for option in options:
        assert f" {option} " in manual, option
    # The manual has those of top and check in sections of their own.
    stated = sorted(re.findall(r"Default: (.*?)\.(?=\s)", re.sub(r"\s+", " ", usage)))
    assert stated == sorted(re.findall(r"Default: (.*?)\.(?= )", manual))


def default_of(name):
    """Of both sides, as the code has it."""
    text = (places.ROOT / "contract" / "defaults.h").read_text()
    return re.search(rf"\b{name}(?:\[\])? = \"?([^;\"]+)", text)[1]


def seconds(name):
    return int(default_of(name).replace("'", "")) // 1000


@needs_mandoc
def test_directives_have_the_codes_defaults():
    manual = text_of("mod_linger.7")
    settings = (SOURCE / "settings.h").read_text()
    assert "bool enabled = true;" in settings
    assert "idle_ms = kDefaultIdleMs;" in settings and "cap_ms = kDefaultCapMs;" in settings
    assert "fallback = Fallback::kInline;" in settings
    for default in ("Linger On", f"LingerSocket {default_of('kDefaultSocket')}", "LingerFallback inline",
                    f"LingerTimeout {seconds('kDefaultIdleMs')}", f"LingerTime {seconds('kDefaultCapMs')}"):
        assert f"Default: {default} Context:" in manual, default


@needs_mandoc
def test_each_directive_is_described_as_httpd_does():
    manual = text_of("mod_linger.7")
    names, of_tls = directives(), directives("mod_linger_tls")
    assert len(names) >= 13 and of_tls
    sections = re.findall(r"^\.Ss (Linger\w*)$", (MAN / "mod_linger.7").read_text(), re.MULTILINE)
    assert sorted(sections) == sorted(names + of_tls)
    for name in names + of_tls:
        module = "linger_tls_module" if name in of_tls else "linger_module"
        assert re.search(rf"Description: \S[^:]* Syntax: {name} [^:]* Default: [^:]* Context: server "
                         rf"config(, virtual host)? Status: External Module: {module} ",
                         manual), name


def test_documents_list_each_counter_and_directive():
    """In the tables that generate.py writes: so each has to have been found."""
    counters = (places.ROOT / "docs" / "counters.md").read_text()
    for key, metric in re.findall(r"^(Linger\w+) \(.*; (\w+)\)$", lingerctl.print_of("--explain"),
                                  re.MULTILINE):
        assert f"\n| `{key}` `{metric}` | " in counters, key
    guide = (places.ROOT / "docs" / "install.md").read_text()
    manual = (MAN / "mod_linger.7").read_text()
    for name in directives() + directives("mod_linger_tls"):
        default = re.search(rf"^\| `{name} [^`]+` \| (?:`([^`]+)`)? \| ", guide, re.MULTILINE)
        assert default, name
        assert default[1] is None or f".Cd {name} {default[1]}\n" in manual, (name, default)


@needs_mandoc
def test_directives_are_all_there_with_their_range(sandbox):
    manual = text_of("mod_linger.7")
    for name in directives() + directives("mod_linger_tls"):
        assert f"Syntax: {name} " in manual, name
    httpd = sandbox.httpd("event", socket_path=sandbox.directory / "s", start=False,
                          linger_directives="LingerTime 0\n")
    refused = re.search(r"is not a duration from (\w+) to (\w+)", httpd.config_test()[1])
    assert f"From {refused[1]} to {refused[2]}" in manual
    shipped = (places.ROOT / "conf" / "linger.conf").read_text()
    for line in re.findall(r"^\s*#(Linger\w* \S+)$", shipped, re.MULTILINE):
        if line in EXAMPLES:
            continue
        assert f"Default: {line} Context:" in manual, line
