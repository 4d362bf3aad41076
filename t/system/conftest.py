# SPDX-License-Identifier: Apache-2.0
"""A booted machine with a stock apache2, and the packages to install there."""
import pathlib
import resource
import shutil
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import machine as machines  # noqa: E402
import site_on_machine  # noqa: E402

PACKAGES = machines.ROOT / "build" / "deb"


def pytest_configure():
    """Thousands of clients are in this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def packages():
    """The .deb files of `make deb`: module and daemon, without debug symbols."""
    found = [path for path in sorted(PACKAGES.glob("*.deb")) if "-dbgsym_" not in path.name]
    assert [path.name.split("_")[0] for path in found] == ["libapache2-mod-linger", "lingerd"]
    return found


def newer(package, directory):
    """The same package with a higher version."""
    tree = directory / package.stem
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN/control"
    lines = [line + "+newer" if line.startswith("Version:") else line
             for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    path = directory / f"newer-{package.name}"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, path], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return path


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """apache2 as Debian ships it, booted, and the packages beside it, not installed."""
    machine = machines.Machine()
    try:
        debs = machine.root / "root/debs"
        debs.mkdir()
        for package in packages():
            shutil.copy(package, debs)
            shutil.copy(newer(package, tmp_path_factory.mktemp("newer")), debs)
        yield site_on_machine.Site(machine)
    finally:
        machine.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed and "site" in getattr(item, "funcargs", {}):
        report.sections.append(("the machine's logs", item.funcargs["site"].logs()))
