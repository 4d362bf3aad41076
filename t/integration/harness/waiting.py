# SPDX-License-Identifier: Apache-2.0
"""Conditions instead of sleeps: tests state what they wait for, with a generous deadline."""
import time

DEADLINE = 30.0


def wait_until(condition, what, deadline=DEADLINE, every=0.02):
    """Returns the first true value of `condition()`; fails with `what` (a text, or a callable that
    describes what is there instead) when the deadline passes."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            text = what() if callable(what) else what
            raise AssertionError(f"not within {deadline} s: {text}")
        time.sleep(every)


def wait_equal(read, expected, what, deadline=DEADLINE):
    """Waits until `read()` is `expected`; the message shows the last value."""
    seen = [None]

    def condition():
        seen[0] = read()
        return seen[0] == expected

    wait_until(condition, lambda: f"{what() if callable(what) else what}: {seen[0]!r}, expected {expected!r}", deadline)


def wait_steady(read, what, every=0.5):
    """The first value that `read()` gives twice in a row."""
    readings = [object()]

    def condition():
        readings.append(read())
        return readings[-1] == readings[-2]

    wait_until(condition, lambda: f"{what}: {readings[-2]}, then {readings[-1]}", every=every)
    return readings[-1]
