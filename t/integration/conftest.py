# SPDX-License-Identifier: Apache-2.0
"""Fixtures of every integration test: the MPM, sandboxes, and the checks after each test."""
import resource

import pytest

from harness import httpd_conf, sandbox


def pytest_configure(config):
    """Tests and the servers that they start hold thousands of sockets."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    config.addinivalue_line("markers", "xdist_group(name): stays on one worker of pytest-xdist")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """Tests that share servers stay together when pytest-xdist spreads the others."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        item.add_marker(pytest.mark.xdist_group(f"{item.module.__name__}-{params.get('mpm')}"))


def _sandbox(name):
    box = sandbox.Sandbox(name)
    yield box
    problems = box.close()
    assert not problems, "\n".join(problems)


@pytest.fixture(params=httpd_conf.MPMS, scope="module")
def mpm(request):
    return request.param


@pytest.fixture(name="sandbox")
def sandbox_fixture(request):
    """Servers for one test."""
    yield from _sandbox(request.node.name.removeprefix("test_"))


@pytest.fixture(scope="module")
def module_sandbox(request):
    """Servers that the tests of a module share."""
    yield from _sandbox(request.module.__name__.removeprefix("test_"))


@pytest.fixture(autouse=True)
def quiet_logs(request):
    """Fails a test that leaves a line in a log which it hasn't announced in `allowed_lines`."""
    yield
    problems = [line for box in sandbox.OPEN for line in box.unexpected_lines()]
    for box in sandbox.OPEN:
        for server in box.servers:
            server.allowed_lines.clear()
    assert not problems, "unexpected in a log:\n" + "\n".join(problems)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for box in sandbox.OPEN:
            report.sections.append((f"logs of {box.directory.name}", box.tails()))
