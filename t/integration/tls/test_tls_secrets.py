# SPDX-License-Identifier: Apache-2.0
"""Where the secrets of a parked connection are, and where not: never in lingerd, in nothing that a child
still uses, and sealed in memory that httpd's processes share, which cores leave out. What a child has
freed has a pattern in it (harness/httpd.py): OpenSSL itself frees an SSL object without wiping it."""
import os
import pathlib
import resource
import signal
import struct

import pytest

from harness import memory, places, tls_parking
from harness.keepalive import wait_parked
from harness.tls_parking import TlsKeepAlive, client_context
from harness.waiting import wait_until

PARKING = ("prefork", "worker")
# What the states of parked connections take, at least.
TABLE = 16 << 20
_PT_LOAD = 1

pytestmark = pytest.mark.skipif(not places.am_root(), reason="reads the memory of other processes")


@pytest.fixture(scope="module", params=PARKING)
def mpm(request):
    return request.param


class _Known(TlsKeepAlive):
    """A client that knows its secrets, and what has been made of them."""

    def __init__(self, port, directory):
        log = directory / f"keys-{os.urandom(4).hex()}"
        context = client_context()
        context.keylog_filename = str(log)
        super().__init__(port, context=context)
        assert self.tls.cipher()[0] == "TLS_AES_256_GCM_SHA384"
        self.secrets = {}
        for line in log.read_text().splitlines():
            if line.split(" ")[0].endswith("_TRAFFIC_SECRET_0"):  # else a comment, or the handshake's
                self.secrets[line.split(" ")[0]] = bytes.fromhex(line.split(" ")[2])
        assert len(self.secrets) == 2


def _children(httpd):
    return [pid for pid in httpd.children() if pid != httpd.pid]


def _found_in_children(httpd, client):
    """{secret's name} of those that are in a child's memory."""
    return set().union(*(memory.found(pid, client.secrets) for pid in _children(httpd)))


@pytest.mark.timeout(600)
def test_no_secret_leaves_httpd(sandbox, mpm):
    # Through all memory may take longer than clients are usually waited for.
    httpd, lingerd = tls_parking.site(sandbox, mpm, workers=2, after_ms=1000,
                                      config="KeepAliveTimeout 600\n")
    client = _Known(httpd.ports["tls"], sandbox.directory)
    client.ask()
    # This is how it would look.
    assert _found_in_children(httpd, client) == set(client.secrets)
    for turn in range(1, 4):
        wait_parked(lingerd, 1, total=turn)
        assert not memory.found(lingerd.pid, client.secrets), turn
        wait_until(lambda: not _found_in_children(httpd, client), f"children have forgotten it: {turn}")
        assert not memory.found(httpd.pid, client.secrets), turn
        client.ask()


def _random_pieces(table):
    """{address: 32 bytes} of what is sealed in it, and of the keys."""
    zero = bytes(32)
    return {at: table[at:at + 32] for at in range(0, len(table) - 32, 32)
            if table[at:at + 32] != zero and len(set(table[at:at + 32])) > 24}


def _memory_in(core):
    """Without its notes: those have each thread's registers, in which a piece of what it has copied last
    may still be."""
    sixty_four = core[4] == 2
    at, = struct.unpack_from("<Q" if sixty_four else "<I", core, 32 if sixty_four else 28)
    size, count = struct.unpack_from("<HH", core, 54 if sixty_four else 42)
    memory_of_core = bytearray()
    for header in range(at, at + size * count, size):
        kind, = struct.unpack_from("<I", core, header)
        offset, = struct.unpack_from("<Q" if sixty_four else "<I", core, header + (8 if sixty_four else 4))
        length, = struct.unpack_from("<Q" if sixty_four else "<I", core, header + (32 if sixty_four else 16))
        if kind == _PT_LOAD:
            memory_of_core += core[offset:offset + length]
    return memory_of_core


@pytest.mark.skipif(pathlib.Path("/proc/sys/kernel/core_pattern").read_text().strip() != "core",
                    reason="cores go somewhere else")
@pytest.mark.timeout(600)
def test_cores_leave_out_what_is_sealed(sandbox, mpm):
    cores = sandbox.directory / "cores"
    cores.mkdir()
    cores.chmod(0o777)
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        httpd, lingerd = tls_parking.site(sandbox, mpm, workers=2,
                                          config=f"CoreDumpDirectory {cores}\nKeepAliveTimeout 600\n")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    httpd.allowed_lines.append("exit signal Abort")
    client = _Known(httpd.ports["tls"], sandbox.directory)
    client.ask()
    wait_parked(lingerd, 1, total=1)
    pieces = _random_pieces(memory.shared(httpd.pid, TABLE))
    assert len(pieces) >= 8, "a state, and a key"
    child = _children(httpd)[0]
    assert memory.found(child, pieces) == set(pieces)
    os.kill(child, signal.SIGABRT)
    wait_until(lambda: httpd.error_log.matching("exit signal Abort"), "it has gone")
    core, = [file.read_bytes() for file in cores.iterdir()]
    in_memory = _memory_in(core)
    assert b"mod_linger_tls" in in_memory
    assert not [(at, in_memory.find(piece)) for at, piece in pieces.items() if piece in in_memory]
    client.ask()
