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


def _machine(directory, **how):
    machine = machines.Machine(**how)
    try:
        debs = machine.root / "root/debs"
        debs.mkdir()
        for package in packages():
            shutil.copy(package, debs)
            shutil.copy(newer(package, directory), debs)
        yield machine
    finally:
        machine.close()


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """apache2 as Debian ships it, booted, and the packages beside it, not installed."""
    for machine in _machine(tmp_path_factory.mktemp("newer")):
        yield site_on_machine.Site(machine)


@pytest.fixture(scope="module")
def bare_site(tmp_path_factory):
    """The same without systemd: nothing is its init."""
    for machine in _machine(tmp_path_factory.mktemp("newer"), systemd=False):
        yield site_on_machine.Site(machine)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed and site:
        report.sections.append(("the machine's logs", site.logs()))
