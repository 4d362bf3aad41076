# SPDX-License-Identifier: Apache-2.0
"""Twenty thousand connections later neither httpd's children nor lingerd hold one descriptor more."""
from harness import clients, logs, proc
from harness.sandbox import settle
from harness.waiting import wait_equal, wait_steady

CONNECTIONS = 20_000


def test_none_is_left(mpm, sandbox):
    """Would catch a leak of a socket, of an accepted connection of lingerd's, or of a descriptor
    that came along in a message: one in 20,000 is enough. And a counter that loses updates when
    all children count at once."""
    httpd, lingerd = sandbox.site(mpm, workers=8, processes=2)
    httpd.allowed_lines += [logs.ALL_BUSY, r"\[linger:(warn|notice)\].* lingerd is (busy|back)"]

    def held():
        return {"children": httpd.child_fds(), "lingerd": len(lingerd.fds()),
                "parent": len(proc.fds(httpd.pid))}

    def held_at_rest():
        settle(httpd)
        return wait_steady(held, "descriptors")

    assert clients.load(httpd.port, 500) == []  # every child opens what it keeps open
    before, ended = held_at_rest(), httpd.ended()
    assert clients.load(httpd.port, CONNECTIONS) == []
    assert held_at_rest() == before
    status = settle(httpd)
    assert status["LingerRejected"] == 0
    wait_equal(lambda: httpd.ended() - ended, CONNECTIONS, "connections that ended")
