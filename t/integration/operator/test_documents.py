# SPDX-License-Identifier: Apache-2.0
"""README.md and docs/: links lead somewhere, also where they are installed; names are real ones."""
import re
import subprocess

import pytest

from harness import lingerctl, places

ROOT = places.ROOT
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
INSTALLED = {path.relative_to(ROOT).as_posix() for path in DOCUMENTS}
LINK = re.compile(r"\]\(([^)\s]+)\)")


def anchors(path):
    """As GitHub makes them from headings."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken_links(path):
    """Those to other files, and to headings."""
    for link in LINK.findall(path.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        if not target.is_file() or anchor and anchor not in anchors(target):
            yield f"{path.name}: {link}"


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(path):
    assert not list(broken_links(path))


def test_links_lead_somewhere_when_installed(tmp_path):
    subprocess.run(["make", "-s", "-C", ROOT, "install-docs", f"DESTDIR={tmp_path}", "PREFIX=/usr"],
                   check=True, capture_output=True, timeout=60)
    installed = tmp_path / "usr/share/doc/mod_linger"
    found = {path.relative_to(installed).as_posix() for path in installed.rglob("*.md")}
    assert found == INSTALLED
    assert not [broken for name in found for broken in broken_links(installed / name)]


@pytest.mark.parametrize("listings", [("deb/debian/lingerd.docs", "deb/debian/rules"),
                                      ("rpm/mod_linger.spec",)], ids=["deb", "rpm"])
def test_packages_bring_the_same(listings):
    """docs/ with all that is in it, and the documents beside it."""
    words = [word for name in listings for word in (ROOT / "packaging" / name).read_text().split()]
    missing = {name for name in INSTALLED if "/" not in name} | {"docs"}
    missing -= set(words)
    assert not missing


def test_names_are_real_ones():
    """What looks like a directive or a counter's key is one."""
    settings = "".join((ROOT / module / "settings.cpp").read_text()
                       for module in ("mod_linger", "mod_linger_tls"))
    known = set(re.findall(r'directive\(\s*"(\w+)"', settings))
    known |= set(re.findall(r"^(Linger\w+) \(", lingerctl.print_of("--explain"), re.MULTILINE))
    known.add("LingerUp")
    pages = [path for path in DOCUMENTS if path.name not in ("CHANGELOG.md", "ARCHITECTURE.md")]
    for path in pages:
        used = set(re.findall(r"`(Linger[A-Z]\w*)[ `]", path.read_text()))
        assert used <= known, (path.name, used - known)


def test_the_readmes_make_targets_are_there():
    makefiles = "".join(path.read_text() for path in (ROOT / "Makefile", *ROOT.glob("*/*.mk")))
    targets = re.findall(r"^    make (\w+)", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(targets) >= 4
    for target in targets:
        assert re.search(rf"^{target}:.* ## ", makefiles, re.MULTILINE), target
