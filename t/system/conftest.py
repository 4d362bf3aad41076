# SPDX-License-Identifier: Apache-2.0
"""A booted machine with a stock apache2, and the packages to install there."""
import pathlib
import resource
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "integration"))

import debs  # noqa: E402
import machine as machines  # noqa: E402
import site_on_machine  # noqa: E402


def pytest_configure():
    """Thousands of clients are in this process."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _machine(directory, **how):
    machine = machines.Machine(**how)
    try:
        inside = machine.root / "root/debs"
        inside.mkdir()
        for package in debs.built():
            shutil.copy(package, inside)
            shutil.copy(debs.newer(package, directory), inside)
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
        yield site_on_machine.Site(machine, booted=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    site = getattr(item, "funcargs", {}).get("site")
    if report.failed and site:
        report.sections.append(("the machine's logs", site.logs()))
