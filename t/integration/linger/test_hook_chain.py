# SPDX-License-Identifier: Apache-2.0
"""Other modules' pre_close_connection hooks: each runs once for each connection, wherever it stands in
the chain, and where mod_linger stands in it."""
import collections
import re
import shutil
import subprocess

import pytest

from harness import clients, h2, logs
from harness.keepalive import KeepAlive, wait_parks
from harness.waiting import wait_equal

# A module that says goodbye to the error log, first, in the middle and last of all hooks.
SOURCE = """
#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>
#include <http_log.h>

static int goodbye(conn_rec *c, const char *where) {
  if (c->master == NULL)
    ap_log_cerror(APLOG_MARK, APLOG_NOTICE, 0, c, "goodbye @name@ %s %d", where,
                  c->client_addr->port);
  return DECLINED;
}
static int first(conn_rec *c) { return goodbye(c, "first"); }
static int middle(conn_rec *c) { return goodbye(c, "middle"); }
static int last(conn_rec *c) { return goodbye(c, "last"); }

static void hooks(apr_pool_t *p) {
  ap_hook_pre_close_connection(first, NULL, NULL, APR_HOOK_REALLY_FIRST);
  ap_hook_pre_close_connection(middle, NULL, NULL, APR_HOOK_MIDDLE);
  /* Not behind mod_http2, which ends the chain. */
  ap_hook_pre_close_connection(last, NULL, NULL, APR_HOOK_LAST - 1);
}
module AP_MODULE_DECLARE_DATA goodbye_@name@_module = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL, hooks};
"""
PLACES = ("first", "middle", "last")
GOODBYE = re.compile(r"goodbye (\w+ \w+) (\d+)")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """{name: LoadModule line} of two such modules."""
    apxs = shutil.which("apxs") or shutil.which("apxs2")
    if not apxs:
        pytest.skip("there is no apxs here")
    directory = tmp_path_factory.mktemp("goodbye")
    loads = {}
    for name in ("before", "after"):
        source = directory / f"mod_goodbye_{name}.c"
        source.write_text(SOURCE.replace("@name@", name))
        subprocess.run([apxs, "-c", source.name], cwd=directory, check=True, capture_output=True)
        module = directory / ".libs" / f"mod_goodbye_{name}.so"
        loads[name] = f"LoadModule goodbye_{name}_module {module}\n"
    return loads


@pytest.fixture(name="servers")
def servers_fixture(mpm, sandbox, built):
    """Stock httpd, and one with the module between the two others."""
    def start(linger_directives="", **options):
        options |= {"loads_before": built["before"], "config": built["after"]}
        stock = sandbox.httpd(mpm, **options)
        httpd, lingerd = sandbox.site(mpm, linger_directives=linger_directives, **options)
        for server in (stock, httpd):
            server.allowed_lines += ["goodbye", logs.ALL_BUSY]
        return stock, httpd, lingerd
    return start


def goodbyes(httpd, port):
    """{"before first": how often it ran for the client's connection of that port, …}"""
    found = (GOODBYE.search(line) for line in httpd.error_log.matching("goodbye"))
    return collections.Counter(match[1] for match in found if int(match[2]) == port)


def expected(times=1):
    return {f"{name} {place}": times for name in ("before", "after") for place in PLACES}


def ask_and_close(httpd):
    with clients.connect(httpd.port) as client:
        client.sendall(clients.request())
        assert clients.split(clients.read_to_fin(client))[0] == 200
        return client.getsockname()[1]


def ask_and_reset(httpd):
    client = clients.connect(httpd.port)
    port = client.getsockname()[1]
    client.sendall(clients.request("/4m.bin"))
    client.recv(1)
    clients.reset(client)
    return port


def ask_http2(httpd):
    with clients.connect(httpd.port) as client:
        client.sendall(h2.opening() + h2.get("/hello.txt") + h2.acknowledge_settings())
        port = client.getsockname()[1]
        client.recv(65536)
        client.shutdown(1)
        clients.read_to_fin(client)
        return port


@pytest.mark.parametrize("client", [ask_and_close, ask_and_reset], ids=["closes", "resets"])
@pytest.mark.parametrize("directives", ["", "Linger Off\n", "LingerOffload On\n"],
                         ids=["on", "off", "offload"])
def test_each_hook_once(servers, client, directives):
    """Would catch a hook that says goodbye twice, or never."""
    stock, httpd, _ = servers(directives)
    for server in (stock, httpd):
        port = client(server)
        wait_equal(lambda: goodbyes(server, port), expected(), "goodbyes")


def test_http2(mpm, servers):
    if mpm == "prefork":
        pytest.skip("mod_http2 is inactive on prefork")
    stock, httpd, _ = servers("Protocols h2c http/1.1\n", modules=("http2",))
    for server in (stock, httpd):
        port = ask_http2(server)
        wait_equal(lambda: goodbyes(server, port), expected(), "goodbyes")


def test_parked(mpm, servers):
    """For httpd each stay in lingerd ends a connection, and begins another one."""
    if mpm == "event":
        pytest.skip("event doesn't park")
    _, httpd, lingerd = servers(
        "LingerKeepAlive On\nLingerKeepAliveAfter 0\n"
        "LingerKeepAliveTrust mod_goodbye_before.c mod_goodbye_after.c\n")
    with KeepAlive(httpd.port) as client:
        for stays in (1, 2):
            assert client.ask()[0] == 200
            wait_parks(lingerd, stays)
            port = client.socket.getsockname()[1]
            wait_equal(lambda: goodbyes(httpd, port), expected(stays), "goodbyes")
