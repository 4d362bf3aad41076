# SPDX-License-Identifier: Apache-2.0
"""`make check`: every step even if an earlier one fails, then one line: N passed, N failed."""

import io
import itertools
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import xml.etree.ElementTree as ElementTree

UNIT_OK = re.compile(r"^OK \((\d+) tests, (\d+) ran, \d+ checks, (\d+) ignored")
UNIT_BAD = re.compile(r"^Errors \((\d+) failures, (\d+) tests, (\d+) ran")


def make(*args, prefix=(), sink=sys.stdout):
    """Runs make, passes its output on, returns its status and its lines."""
    print(f"==== make {' '.join(args)}", file=sink, flush=True)
    started = time.monotonic()
    lines = []
    with subprocess.Popen([*prefix, "make", "--no-print-directory", *args], stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace") as process:
        for line in process.stdout:
            sink.write(line)
            sink.flush()
            lines.append(line)
    print(f"==== {time.monotonic() - started:.0f} s, status {process.returncode}", file=sink, flush=True)
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


# The newest release beside this machine's, which is Debian 12 in CI; and of its tests those of what a
# client notices first. `make distro-test` runs more.
OTHER_DISTRO = "trixie"
DISTRO_TESTS = ("linger/test_truncation.py linger/test_freed_worker.py keepalive/test_keepalive.py "
                "keepalive/test_keepalive_way.py offload/test_offload.py offload/test_offload_daemon.py "
                "tls/test_tls_parking.py")
SKIPPED = "-test skipped: "
# What hunts for rare errors has found one: that is no accident of the machine.
NO_SECOND_CHANCE = ("test_keepalive_races", "test_tls_races", "test_hostile_random")
MOST_UNSTEADY = 3


def unsteady(lines):
    """Failed tests, by name, that may be run once more: a few, and none whose failure is rare by
    nature."""
    summary = re.compile(r"^(?:FAILED|ERROR) (t/integration/.*?)(?:@[^@ ]*)?(?: - .*)?$")
    failed = list(dict.fromkeys(match[1] for line in lines if (match := summary.match(line))))
    hopeless = len(failed) > MOST_UNSTEADY or any(
        word in name for name in failed for word in NO_SECOND_CHANCE)
    return [] if hopeless else failed


class Beside:
    """Steps that need no quiet machine, one after the other, beside what waits more than it works: they
    get the processor time that it leaves. The output of each is kept, and printed whole at the end."""

    def __init__(self, *steps, nice=19):
        """A step is a name, make's arguments, and what finds passed and failed tests in its lines."""
        # They end with this process, however that ends.
        self._command = ("setpriv", "--pdeathsig", "TERM", "nice", "-n", str(nice))
        self._steps = steps
        self._ended = {name: threading.Event() for name, _, _ in steps}
        self._done = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        for name, arguments, _ in self._steps:
            output = io.StringIO()
            try:
                status, lines = make(*arguments, prefix=self._command, sink=output)
            except OSError as why:
                status, lines = 1, [f"{why}\n"]
                output.write(lines[0])
            self._done.append((status, lines, output.getvalue()))
            self._ended[name].set()

    def wait_for(self, name):
        """Until this step has ended, however it did."""
        while not self._ended[name].wait(1) and self._thread.is_alive():
            pass

    def wait(self):
        """(name, status, lines, tests passed and failed) of each."""
        self._thread.join()
        # What broke the thread off has taken steps along.
        for (name, _, results), (status, lines, output) in itertools.zip_longest(
                self._steps, self._done, fillvalue=(1, [], "==== not run\n")):
            print(output, end="", flush=True)
            yield name, status, lines, results(lines)


class Tally:
    def __init__(self):
        self.passed = self.failed = 0
        self.broken = []
        self.unsteady = []

    def count(self, step, status, passed=0, failed=0):
        # A step that breaks off without naming a failed test is a failure as well.
        failed = failed or (1 if status else 0)
        self.passed += passed
        self.failed += failed
        if failed:
            self.broken.append(step)

    def step(self, name, *args):
        status, _ = make(*args)
        self.count(name, status)

    def unit(self, *args):
        status, lines = make(*args)
        self.count(args[-1], status, *unit_results(lines))

    def beside(self, steps):
        for name, status, _, results in steps.wait():
            self.count(name, status, *results)

    def pytest(self, goal, args="", *variables):
        with tempfile.NamedTemporaryFile(suffix=".xml") as report:
            status, lines = make(goal, f"PYTEST_ARGS={args} --junitxml={report.name}", *variables)
            self.count(goal, status, *pytest_results(report.name))
        return lines

    def integration(self, args):
        """Some eighteen hundred tests side by side, with deadlines, on a machine that may be busy: one
        that fails may show that it passes by itself. It is named at the end all the same, because it is
        a mistake, of the test if not of the product."""
        with tempfile.NamedTemporaryFile(suffix=".xml") as report:
            status, lines = make("integration", f"PYTEST_ARGS={args} --junitxml={report.name}")
            passed, failed = pytest_results(report.name)
        again = unsteady(lines) if status and failed else []
        if again:
            tests = " ".join(shlex.quote(name) for name in again)
            if make("integration", f"TESTS={tests}")[0] == 0:
                self.unsteady = again
                status, passed, failed = 0, passed + failed, 0
        self.count("integration", status, passed, failed)


def no_tests(_):
    return ()


def distro_test(tally, root, processors):
    """The lines to be said again."""
    lines = [line for _, _, said, _ in root.wait() for line in said]
    if not any(SKIPPED in line for line in lines):
        lines = tally.pytest("distro-test", f"-n {2 * processors} --dist loadgroup {DISTRO_TESTS}",
                             f"DISTRO={OTHER_DISTRO}")
    return lines


def main():
    processors = os.cpu_count() or 1
    jobs = f"-j{processors}"
    tally = Tally()
    # Waits for the network more than it works.
    other_root = Beside((f"a root of {OTHER_DISTRO}", ("distro-root", f"DISTRO={OTHER_DISTRO}"), no_tests),
                        nice=0)
    tally.step("build", jobs, "all", "tools")
    tally.unit(jobs, "unit")
    rest = Beside(
        # The unit tests have just been run, as the packages would compile them; they do run them where
        # another Debian's compiler does.
        ("deb", ("deb", "UNIT_TESTED=1"), no_tests),
        ("policies and units", ("-k", "selinux", "apparmor", "units"), no_tests),
        # One build of everything with clang++: its warnings, the unit tests under ASan and UBSan, and what
        # fuzz needs.
        ("clang++, asan-unit", (jobs, "VARIANT=fuzz", "CXX=clang++", "all", "unit", "fuzz-targets"),
         unit_results),
        ("rpm", ("rpm-test", "RPM_ARGS=--without check"), no_tests),
        ("lint", ("-k", jobs, "lint"), no_tests))
    # Tests wait more than they work.
    tally.integration(os.environ.get("PYTEST_ARGS", f"-n {3 * processors}"))
    # A short one of what otherwise runs for hours.
    tally.step("soak", "soak", "SOAK_CONNECTIONS=10000")
    rest.wait_for("deb")
    lines = tally.pytest("system-test")
    lines += distro_test(tally, other_root, processors)
    tally.beside(rest)
    # Another one; it takes all the processors that there are.
    tally.step("fuzz", jobs, "fuzz", "FUZZ_SECONDS=10")
    # Where this machine can't boot another one: said once more, where everybody looks.
    print(*(line for line in lines if SKIPPED in line), sep="", end="")

    for name in tally.unsteady:
        print(f"unsteady: {name} failed beside the others, and passed by itself")
    if tally.broken:
        print("failed:", ", ".join(tally.broken))
    print(f"{tally.passed} passed, {tally.failed} failed", flush=True)
    return 1 if tally.failed else 0


if __name__ == "__main__":
    sys.exit(main())
