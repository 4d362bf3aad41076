# SPDX-License-Identifier: Apache-2.0
"""LingerOffload and handlers that pause: what they have written reaches the client meanwhile, as it
does with stock httpd. A handler here goes on only once the client has got everything that came before
its pause; a response whose rest stays with the worker is a deadlock."""
import pytest

from harness import clients, gates, offload, proc
from harness.httpd import content
from harness.offload import BIG, Reader, body_of, wait_offloaded, wait_over
from harness.waiting import wait_equal, wait_until

WHOLE = content(BIG[1:])
TRANSPORTS = ("plain", "1.3")
MODULES = ("proxy", "proxy_http", "proxy_fcgi")


@pytest.fixture(scope="module")
def site(mpm, module_sandbox):
    """(httpd, lingerd, gate)"""
    ports = {}
    perl, php = gates.perl_config(), gates.php_config() if mpm == "prefork" else None
    gate = gates.Gate()
    with gates.http_backend(gate, WHOLE) as ports["http"], \
            gates.fcgi_backend(gate, WHOLE) as ports["fcgi"]:
        config = f"""
ProxyTimeout 60
ProxyPass /http http://127.0.0.1:{ports["http"]}/
ProxyPass /fcgi fcgi://127.0.0.1:{ports["fcgi"]}/
ProxyPass /flushed fcgi://localhost:{ports["fcgi"]}/ flushpackets=on
{perl or ""}{php or ""}"""
        httpd, lingerd = offload.site(module_sandbox, mpm, workers=6, modules=MODULES, config=config,
                                      prepare=lambda httpd: gates.write_handlers(httpd, gate))
        yield httpd, lingerd, gate
        wait_over(lingerd)


@pytest.fixture
def paused(site, mpm):
    """Skips where the handler isn't to be had."""
    def check(path):
        if path.endswith(".php") and not (mpm == "prefork" and gates.php_config()):
            pytest.skip("no mod_php here")
        if path.startswith("/perl") and not gates.perl_config():
            pytest.skip("no mod_perl here")
        site[2].path.unlink(missing_ok=True)
        return site
    return check


def read_until_body_holds(client, size):
    """Reads on until the body is that long; what has come."""
    received, begin, framing = bytearray(), None, 0
    while begin is None or len(received) - begin - framing < size:
        fresh = len(received)
        chunk = client.read()
        assert chunk, f"the end, after {len(received)} bytes"
        received += chunk
        if begin is None:
            if b"\r\n\r\n" not in received:
                continue
            begin = fresh = received.index(b"\r\n\r\n") + 4
        # Chunked framing makes it longer: counted with it, that is for the last bytes.
        if b"Transfer-Encoding: chunked" in received[:begin]:
            framing += received.count(b"\r\n", max(begin, fresh - 1)) * 2
    return bytes(received)


FLUSHED = ["/length-flush.php", "/chunked-flush.php", "/perl?length-flush", "/perl?chunked-flush",
           "/cgi/pause-length", "/cgi/pause-chunked", "/http", "/flushed"]
# httpd itself holds some bytes back until it is told to flush: of a TLS record, of a small write.
UNFLUSHED = ["/chunked-none.php", "/perl?chunked-none", "/fcgi"]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("path", FLUSHED + UNFLUSHED)
def test_what_came_before_a_pause(paused, path, transport):
    """Would catch a rest that waits for the handler's next write."""
    httpd, _, gate = paused(path)
    with Reader(httpd, clients.request(path), transport) as client:
        held_back = 66_000 if path in UNFLUSHED else 0
        received = read_until_body_holds(client, len(WHOLE) - held_back)
        gate.open()
        received += client.read_all()
    assert body_of(received) == WHOLE + b"end"
    gate.wait_taken()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_program_that_works_on(paused, transport):
    """A CGI program whose answer is complete, and whose standard error httpd still reads: the client
    has it all, though the request isn't over."""
    httpd, _, gate = paused("/cgi/works-on")
    with Reader(httpd, clients.request("/cgi/works-on"), transport) as client:
        received = read_until_body_holds(client, len(WHOLE))
        gate.open()
        received += client.read_all()
    assert body_of(received) == WHOLE
    gate.wait_taken()


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("path", ["/duplex.php", "/perl?duplex"])
def test_full_duplex(paused, path, transport):
    """The client sends its request's body when it has the answer to its beginning. Would catch a
    handler that waits for the body while the client waits for the answer."""
    httpd, _, _ = paused(path)
    wanted = clients.request(path, "Content-Length: 100000", method="PUT")
    with Reader(httpd, wanted, transport) as client:
        received = read_until_body_holds(client, len(WHOLE))
        client.send(b"x" * 100_000)
        received += client.read_all()
    assert body_of(received) == WHOLE + b"100000"


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("kind", ["cleanup", "cleanup-flush"])
def test_long_cleanups(paused, kind, transport):
    """What a module does when the request is over keeps no client waiting, not even for the FIN."""
    httpd, lingerd, gate = paused("/perl")
    before = lingerd.counters()["LingerOffloads"]
    with Reader(httpd, clients.request("/perl?" + kind), transport) as client:
        if kind == "cleanup":
            wait_offloaded(lingerd, before + 1)
            assert body_of(client.read_all()) == WHOLE
            gate.open()
        else:
            received = read_until_body_holds(client, len(WHOLE))
            gate.open()
            assert body_of(received + client.read_all()) == WHOLE
    gate.wait_taken()


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_child_that_ends_with_its_request(paused, mpm, transport):
    """Apache2::SizeLimit's way: child_terminate. Would catch a response that is cut, with a log line
    that says that all of it was sent."""
    if mpm != "prefork":
        pytest.skip("mod_perl has child_terminate on prefork only")
    httpd, lingerd, _ = paused("/perl")
    before = lingerd.counters()["LingerOffloads"]
    mark = httpd.access_log.mark()
    children = set(httpd.children())
    with Reader(httpd, clients.request("/perl?terminate"), transport) as client:
        wait_offloaded(lingerd, before + 1)
        wait_until(lambda: children - set(httpd.children()), "the child has ended")
        response = client.read_all()
        assert body_of(response) == WHOLE
    line = wait_until(lambda: httpd.access_log.matching(r" /perl", mark), "a line")[0].split()
    assert line[5] == "-" and line[-1] == "offload", line
    assert transport != "plain" or int(line[3]) == len(response), line


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_that_is_lost_while_the_handler_works(sandbox, mpm, transport):
    """It takes nothing for the server's Timeout: the handler's next write fails, and the connection
    ends with an RST. Would catch half a response that looks like a whole one."""
    gate = gates.Gate()
    with gates.http_backend(gate, WHOLE) as port:
        httpd, lingerd = offload.site(
            sandbox, mpm, modules=MODULES, prepare=lambda httpd: gates.write_handlers(httpd, gate),
            config=f"Timeout 1\nProxyPass /http http://127.0.0.1:{port}/ timeout=60\n")
        with Reader(httpd, clients.request("/http", version="1.0"), transport) as client:
            assert client.read(1)
            wait_until(lambda: holds_rest(httpd), "there is a rest")
            wait_until(lambda: not holds_rest(httpd), "it is given up")
            gate.open()
            gate.wait_taken()
            wait_until(lambda: httpd.access_log.matching("/http"), "the request is over")
            with pytest.raises(ConnectionResetError):
                client.read_all()
        line = httpd.access_log.matching("/http")[0].split()
        assert line[5] == "X" and line[-1] != "offload", line
        assert lingerd.counters()["LingerOffloads"] == 0


def holds_rest(httpd):
    return any("memfd:response" in target for pid in httpd.children()
               for target in proc.fds(pid).values())


@pytest.mark.parametrize("pause", ["", "sleep 0.5"])
def test_a_client_that_is_given_away_is_not_kept(sandbox, mpm, pause):
    """httpd has sent on while the handler worked, and the client reads nothing. Would catch a copy of the
    socket, which keeps the client connected after lingerd has given it up, or of the rest in memory."""
    def write_script(httpd):
        script = httpd.directory / "cgi" / "pauses"
        script.write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\n"
                          f"head -c 900000 {httpd.directory}/www/4m.bin\n{pause}\necho end\n")
        script.chmod(0o755)

    httpd, lingerd = offload.site(sandbox, mpm, directives="LingerOffloadTimeout 1\n",
                                  config="Timeout 300\n", prepare=write_script)
    with clients.connect(httpd.port, 16384) as client:
        client.sendall(clients.request("/cgi/pauses"))
        wait_until(lambda: lingerd.counters()["LingerOffloads"] == 1, "lingerd delivers")
        wait_until(lambda: not holds_rest(httpd), "httpd has let go of the rest")
        wait_equal(lambda: lingerd.counters()["LingerDeliveryTimedOut"], 1, "given up")
        wait_until(lambda: client.getsockname()[1] not in proc.server_ends(httpd.port),
                   "nobody holds the connection")
