# SPDX-License-Identifier: Apache-2.0
"""The oldest httpd that has the pre_close_connection hook is 2.4.20. Its headers aren't here, so the
installed ones are made as old as they were: the module has to do without what came later, and to say
so where the hook itself is missing."""
import os
import pathlib
import re
import shlex
import shutil
import subprocess

import pytest

from harness import places

SOURCES = sorted((places.ROOT / "mod_linger").glob("*.cpp"))
CXX = shlex.split(os.environ.get("CXX", "g++"))
# What has come to the structures that the module uses since 20120211.55, and the minor number with
# which it came: declarations to take out of the headers.
LATER = {
    "httpd.h": [(116, r"^    int outgoing;$")],
    "http_config.h": [(70, r"^    int flags;$")],
}


def _ask_apxs(what):
    tool = shutil.which("apxs") or shutil.which("apxs2")
    if not tool:
        pytest.skip("there is no apxs here")
    return subprocess.run([tool, "-q", what], capture_output=True, text=True, check=True
                          ).stdout.strip()


def _replace(path, pattern, replacement):
    text, count = re.subn(pattern, replacement, path.read_text(), flags=re.MULTILINE)
    assert count == 1, f"{path.name}: {count} times {pattern}"
    path.write_text(text)


def headers_of(minor, directory):
    """The installed headers as of 20120211.`minor`."""
    copy = directory / "include"
    shutil.copytree(_ask_apxs("INCLUDEDIR"), copy)
    _replace(copy / "ap_mmn.h", r"^#define MODULE_MAGIC_NUMBER_MINOR +\d+",
             f"#define MODULE_MAGIC_NUMBER_MINOR {minor}")
    for name, declarations in LATER.items():
        for since, pattern in declarations:
            if minor < since:
                _replace(copy / name, pattern, "")
    return copy


def compile_module(source, include):
    """Syntax only: (exit code, messages)."""
    installed = f"-I{_ask_apxs('INCLUDEDIR')}"
    extra = [flag for flag in shlex.split(_ask_apxs("EXTRA_INCLUDES")) if flag != installed]
    done = subprocess.run(
        [*CXX, "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror", f"-I{places.ROOT}",
         "-isystem", str(include), *shlex.split(_ask_apxs("EXTRA_CPPFLAGS")), *extra, str(source)],
        capture_output=True, text=True, check=False, timeout=110)
    return done.returncode, done.stderr


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_compiles_against_the_oldest(tmp_path, source):
    """Would catch a use of what 2.4.20 doesn't have without an #if."""
    code, messages = compile_module(source, headers_of(55, tmp_path))
    assert code == 0, messages


def test_older_ones_are_refused_with_words(tmp_path):
    code, messages = compile_module(places.ROOT / "mod_linger/mod_linger.cpp",
                                    headers_of(54, tmp_path))
    assert code != 0
    assert "mod_linger needs httpd 2.4.20 or newer" in messages


def test_the_headers_were_made_older(tmp_path):
    """The control: without its #if the module wouldn't compile."""
    source = tmp_path / "careless.cpp"
    source.write_text("#include <httpd.h>\n#include <http_config.h>\n"
                      "int outgoing(conn_rec* c) { return c->outgoing; }\n")
    (tmp_path / "new").mkdir()
    assert compile_module(source, headers_of(116, tmp_path / "new"))[0] == 0
    code, messages = compile_module(source, headers_of(55, pathlib.Path(tmp_path)))
    assert code != 0 and "outgoing" in messages
