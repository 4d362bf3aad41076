# SPDX-License-Identifier: Apache-2.0
"""`make check`: every step even if an earlier one fails, then one line: N passed, N failed."""

import os
import re
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree

UNIT_OK = re.compile(r"^OK \((\d+) tests, (\d+) ran, \d+ checks, (\d+) ignored")
UNIT_BAD = re.compile(r"^Errors \((\d+) failures, (\d+) tests, (\d+) ran")


def make(*args):
    """Runs make, passes its output on, returns its status and its lines."""
    print(f"==== make {' '.join(args)}", flush=True)
    started = time.monotonic()
    lines = []
    with subprocess.Popen(["make", "--no-print-directory", *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as process:
        for line in process.stdout:
            sys.stdout.write(line)
            sys.stdout.flush()
            lines.append(line)
    print(f"==== {time.monotonic() - started:.0f} s, status {process.returncode}", flush=True)
    return process.returncode, lines


def unit_results(lines):
    passed = failed = 0
    for line in lines:
        if match := UNIT_OK.match(line):
            passed += int(match[2])
        elif match := UNIT_BAD.match(line):
            failed += int(match[1])
            passed += max(0, int(match[3]) - int(match[1]))
    return passed, failed


def pytest_results(path):
    try:
        suites = ElementTree.parse(path).getroot().iter("testsuite")
    except (OSError, ElementTree.ParseError):
        return 0, 0
    passed = failed = 0
    for suite in suites:
        bad = int(suite.get("failures")) + int(suite.get("errors"))
        failed += bad
        passed += int(suite.get("tests")) - bad - int(suite.get("skipped"))
    return passed, failed


def main():
    total_passed = total_failed = 0
    broken = []

    def count(step, status, passed=0, failed=0):
        nonlocal total_passed, total_failed
        # A step that breaks off without naming a failed test is a failure as well.
        failed = failed or (1 if status else 0)
        total_passed += passed
        total_failed += failed
        if failed:
            broken.append(step)

    jobs = f"-j{os.cpu_count() or 1}"
    status, _ = make(jobs, "all")
    count("build", status)
    status, _ = make(jobs, "VARIANT=clang", "CXX=clang++", "all")
    count("build with clang++", status)
    for step in ("unit", "asan-unit"):
        status, lines = make(jobs, step)
        count(step, status, *unit_results(lines))
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        args = f"{os.environ.get('PYTEST_ARGS', jobs.replace('-j', '-n '))} --junitxml={report.name}"
        status, _ = make("integration", f"PYTEST_ARGS={args}")
        count("integration", status, *pytest_results(report.name))
    status, _ = make("-k", jobs, "lint")
    count("lint", status)

    status, _ = make("-k", "selinux", "apparmor", "units")
    count("policies and units", status)
    # The unit tests are part of the Debian package's build.
    for step in (("deb",), ("rpm-test", "RPM_ARGS=--without check")):
        status, _ = make(*step)
        count(step[0], status)
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        status, lines = make("system-test", f"PYTEST_ARGS=--junitxml={report.name}")
        count("system-test", status, *pytest_results(report.name))
    # Where this machine can't boot another one: said once more, where everybody looks.
    print(*(line for line in lines if line.startswith("system-test skipped: ")), sep="", end="")

    if broken:
        print("failed:", ", ".join(broken))
    print(f"{total_passed} passed, {total_failed} failed", flush=True)
    return 1 if total_failed else 0


if __name__ == "__main__":
    sys.exit(main())
