# SPDX-License-Identifier: Apache-2.0
"""Twenty thousand connections later neither httpd's children nor lingerd hold one descriptor more."""
from harness import clients, logs, proc
from harness.waiting import wait_equal, wait_until

CONNECTIONS = 20_000


def wait_quiet(httpd, lingerd):
    wait_equal(lambda: lingerd.counters()["LingerTotal"], httpd.status()["LingerHandoffs"],
               "sockets taken over")
    wait_equal(lingerd.queue, 0, "sockets in lingerd")
    wait_equal(lambda: httpd.status()["BusyWorkers"], "1", "busy workers")


def test_none_is_left(mpm, sandbox):
    """Would catch a leak of a socket, of an accepted connection of lingerd's, or of a descriptor
    that came along in a message: one in 20,000 is enough. And a counter that loses updates when
    all children count at once."""
    httpd, lingerd = sandbox.site(mpm, workers=8, processes=2)
    httpd.allowed_lines += [logs.ALL_BUSY, r"\[linger:(warn|notice)\].* lingerd is (busy|back)"]
    assert clients.load(httpd.port, 500) == []  # every child has served, and has opened what it keeps open
    wait_quiet(httpd, lingerd)

    def held():
        return {"children": httpd.child_fds(), "lingerd": len(lingerd.fds()),
                "parent": len(proc.fds(httpd.pid))}

    before, ended = held(), httpd.ended()
    assert clients.load(httpd.port, CONNECTIONS) == []
    wait_quiet(httpd, lingerd)
    wait_until(lambda: held() == before, lambda: f"descriptors: {held()}, before {before}")
    status = httpd.status()
    assert status["LingerTotal"] == status["LingerHandoffs"]
    assert status["LingerRejected"] == 0
    wait_equal(lambda: httpd.ended() - ended, CONNECTIONS, "connections that ended")
