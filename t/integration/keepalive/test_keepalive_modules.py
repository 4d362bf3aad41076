# SPDX-License-Identifier: Apache-2.0
"""Modules that keep something on connections, or count them: which ones LingerKeepAlive goes together
with, and that the others keep their connections."""
import glob
import os
import pwd
import subprocess
import time

import pytest

from harness import keepalive, places, proc
from harness.keepalive import KeepAlive, wait_parked, wait_parks


def _load(symbol, file):
    if not (places.HTTPD_MODULES / file).exists():
        pytest.skip(f"there is no {file}")
    return f'LoadModule {symbol} "{places.HTTPD_MODULES / file}"\n'


EVASIVE = "DOSHashTableSize 100\nDOSPageCount 100\nDOSSiteCount 5000\nDOSLogDir @dir@/logs\n"
SECURITY = 'SecRuleEngine On\nSecDataDir @dir@/run\nSecRule ARGS "@contains evil" "id:1,phase:2,deny"\n'


NO_EFFECT = "LingerKeepAlive has no effect: "


@pytest.mark.parametrize("what", ["evasive", "security", "reqtimeout", "remoteip", "unique_id", "dumpio",
                                  "php", "bw", "http2"])
def test_goes_together(sandbox, what):
    """Parked and back, five times, and the module does what it is there for."""
    config, modules, loads = "", (), ""
    if what == "evasive":
        loads, config = _load("evasive20_module", "mod_evasive20.so"), EVASIVE
    elif what == "security":
        loads = _load("security2_module", "mod_security2.so")
        modules, config = ("unique_id",), SECURITY
    elif what == "remoteip":
        modules, config = ("remoteip",), "RemoteIPHeader X-Forwarded-For\n"
    elif what == "reqtimeout":
        modules, config = ("reqtimeout",), "RequestReadTimeout header=20-40,MinRate=500\n"
    elif what == "dumpio":
        modules, config = ("dumpio",), "DumpIOInput On\nDumpIOOutput On\nLogLevel dumpio:trace7\n"
    elif what == "unique_id":
        modules = ("unique_id",)
    elif what == "bw":
        loads = _load("bw_module", "mod_bw.so")
        config = "BandWidthModule On\nForceBandWidthModule On\nBandWidth all 1000000\nMaxConnection all 2\n"
    elif what == "http2":
        modules, config = ("http2",), "Protocols h2c http/1.1\nH2Direct On\n"
    else:
        loads = _load("php_module", "libphp8.2.so")
    httpd, lingerd = keepalive.site(sandbox, "worker" if what == "http2" else "prefork",
                                    modules=modules, config=loads + config)
    httpd.allowed_lines += ["ModSecurity", "AH00161", "dumpio"]
    with KeepAlive(httpd.port) as connection:
        for number in range(1, 6):
            headers = (f"X-Forwarded-For: 192.0.2.{number}",) if what == "remoteip" else ()
            assert connection.ask("/hello.txt", *headers)[0] == 200
            wait_parks(lingerd, number)
        if what == "security":
            assert connection.ask("/hello.txt?a=evil")[0] == 403
            httpd.allowed_lines.append("Access denied")
    if what == "dumpio":
        assert len(httpd.error_log.matching("GET /hello.txt")) == 5
    if what == "remoteip":
        addresses = [line.split()[0] for line in httpd.access_log.text().splitlines()]
        assert addresses == [f"192.0.2.{number}" for number in range(1, 6)]


def test_evasive_still_counts(sandbox):
    """By address, in each process: requests of a connection that was away add up."""
    loads = _load("evasive20_module", "mod_evasive20.so")
    limits = EVASIVE.replace("DOSPageCount 100", "DOSPageCount 3\nDOSPageInterval 600")
    httpd, lingerd = keepalive.site(sandbox, "prefork", workers=1, config=loads + limits)
    httpd.allowed_lines += ["client denied by server configuration", "AH00161"]
    answers = []
    with KeepAlive(httpd.port) as connection:
        while 403 not in answers and len(answers) < 20:
            answers.append(connection.ask()[0])
            wait_parks(lingerd, len(answers))
    assert 1 < answers.index(403) < 6, answers


def _answers(httpd, path, count):
    """What so many requests of one connection get, with time to be parked after each."""
    with KeepAlive(httpd.port) as connection:
        found = []
        for _ in range(count):
            status, _, body = connection.ask(path)
            found.append((status, body))
            time.sleep(0.05)
        return found


def _has_no_effect(httpd, lingerd, why):
    assert len(httpd.error_log.matching(NO_EFFECT + why)) == 1
    assert lingerd.counters()["LingerParkedTotal"] == 0


@pytest.mark.parametrize("limit", ["SecConnReadStateLimit", "SecConnWriteStateLimit"])
def test_security_counts_states_of_connections(sandbox, limit):
    """By the scoreboard, when a connection begins: each return would be one that begins while others
    are read or answered. Twelve clients of one address ask at once, again and again."""
    httpd, lingerd = keepalive.site(
        sandbox, "worker", workers=12, modules=("unique_id",),
        config=_load("security2_module", "mod_security2.so") + SECURITY + f"{limit} 4\n")
    httpd.allowed_lines += ["ModSecurity", NO_EFFECT + limit]
    connections = [KeepAlive(httpd.port) for _ in range(4)]
    for _ in range(5):
        for connection in connections:
            connection.send()
        assert [connection.response()[0] for connection in connections] == [200] * 4
        time.sleep(0.05)
    _has_no_effect(httpd, lingerd, limit)
    for connection in connections:
        connection.socket.close()


COUNTER = """
function handle(r)
  seen = (seen or 0) + 1
  r.content_type = "text/plain"
  r.headers_out["Content-Length"] = "1"
  r:write(tostring(seen))
  return apache2.OK
end
"""
LUA = ('<Directory "@dir@/www">\nSetHandler none\n<Files "count.lua">\nSetHandler lua-script\n</Files>\n'
       "</Directory>\n")


@pytest.mark.parametrize("where", ["server", "directory", "htaccess"])
def test_lua_keeps_its_state(sandbox, where):
    """LuaScope conn keeps a script's variables in the connection's pool, where nobody can see them."""
    config = {"server": LUA + "LuaScope conn\n",
              "directory": LUA.replace("<Files ", "LuaScope conn\n<Files "),
              "htaccess": LUA.replace("<Files ", "AllowOverride All\n<Files ")}[where]
    httpd, lingerd = keepalive.site(sandbox, "prefork", workers=1, modules=("lua",), config=config)
    httpd.allowed_lines.append(NO_EFFECT)
    (httpd.directory / "www" / "count.lua").write_text(COUNTER)
    if where == "htaccess":
        (httpd.directory / "www" / ".htaccess").write_text("LuaScope conn\n")
    assert _answers(httpd, "/count.lua", 4) == [(200, str(n).encode()) for n in range(1, 5)]
    _has_no_effect(httpd, lingerd, "AllowOverride" if where == "htaccess" else "LuaScope conn")


def test_lua_without_that_scope_is_no_obstacle(sandbox):
    httpd, lingerd = keepalive.site(sandbox, "prefork", modules=("lua",), config=LUA)
    (httpd.directory / "www" / "count.lua").write_text(COUNTER)
    with KeepAlive(httpd.port) as connection:
        assert connection.ask("/count.lua")[2] == b"1"
        wait_parked(lingerd, 1)


UNKNOWN = """
#include <httpd.h>
#include <http_config.h>
#include <http_connection.h>
static int nothing(conn_rec *c) { (void)c; return DECLINED; }
static void hooks(apr_pool_t *p) {
  (void)p;
  ap_hook_process_connection(nothing, NULL, NULL, APR_HOOK_MIDDLE);
}
module AP_MODULE_DECLARE_DATA unknown_module = {STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, NULL,
                                                hooks, 0};
"""


def _compiled(directory):
    source, library = directory / "mod_unknown.c", directory / "mod_unknown.so"
    source.write_text(UNKNOWN)
    flags = "".join(subprocess.run(["apxs", "-q", name], capture_output=True, text=True, check=True).stdout
                    for name in ("CFLAGS", "EXTRA_CPPFLAGS"))
    include = [f"-I{subprocess.run(['apxs', '-q', name], capture_output=True, text=True, check=True).stdout.strip()}"
               for name in ("INCLUDEDIR", "APR_INCLUDEDIR")]
    subprocess.run(["cc", *flags.split(), *include, "-shared", "-fPIC", "-o", library, source.name],
                   check=True, cwd=directory)
    return f'LoadModule unknown_module "{library}"\n'


@pytest.mark.parametrize("trust", [False, True])
def test_unknown_hooks_are_an_obstacle(sandbox, trust):
    """Unless the administrator says that they aren't."""
    loads = _compiled(sandbox.directory)
    httpd, lingerd = keepalive.site(
        sandbox, "worker", config=loads,
        directives="LingerKeepAliveTrust mod_other.c mod_unknown.c\n" if trust else "")
    httpd.allowed_lines.append(NO_EFFECT + "mod_unknown.c has a process_connection hook")
    if trust:
        with KeepAlive(httpd.port) as connection:
            connection.ask()
            wait_parked(lingerd, 1)
        assert not httpd.error_log.matching(NO_EFFECT)
        return
    assert [status for status, _ in _answers(httpd, "/hello.txt", 4)] == [200] * 4
    _has_no_effect(httpd, lingerd, "mod_unknown.c")
    assert httpd.error_log.matching("say LingerKeepAliveTrust mod_unknown.c")


@pytest.mark.parametrize("mpm", ["prefork", "worker"])
def test_looked_up_names_stay(sandbox, mpm):
    """A stay would ask the name server again."""
    httpd, lingerd = keepalive.site(sandbox, mpm, config="""
<Location /other.txt>
HostnameLookups On
</Location>
""")
    with KeepAlive(httpd.port) as connection:
        connection.ask("/other.txt")
        for _ in range(3):
            time.sleep(0.05)
            connection.ask()
        assert lingerd.counters()["LingerParkedTotal"] == 0
    with KeepAlive(httpd.port) as connection:
        connection.ask()
        wait_parked(lingerd, 1)


@pytest.mark.parametrize("config", ["", "QS_SrvMaxConnPerIP 3\n"])
def test_qos_keeps_its_connections(sandbox, config):
    """mod_qos counts connections, and would count one that returns as a new one."""
    pcre = sorted(glob.glob("/usr/lib/*/libpcre.so.3"))
    if not pcre:
        pytest.skip("there is no libpcre.so.3, which mod_qos forgets to name")
    loads = f"LoadFile {pcre[0]}\n" + _load("qos_module", "mod_qos.so")
    httpd, lingerd = keepalive.site(sandbox, "prefork", config=loads + config)
    httpd.allowed_lines += ["mod_qos", "AH00161"]
    assert len(httpd.error_log.matching(NO_EFFECT + "mod_qos.c has a pre_connection hook")) == 1
    with KeepAlive(httpd.port) as connection:
        for _ in range(5):
            assert connection.ask()[0] == 200
            time.sleep(0.05)
    assert lingerd.counters()["LingerParkedTotal"] == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_itk(sandbox):
    """Its child serves one connection, under the user of its virtual host; the process that had
    accepted it is free when the connection is parked."""
    loads = _load("mpm_itk_module", "mpm_itk.so")
    httpd, lingerd = keepalive.site(sandbox, "prefork", workers=2, config=loads + """
AssignUserID nobody nogroup
LimitUIDRange 1 65535
LimitGIDRange 1 65535
""")
    httpd.allowed_lines += ["AH00161", "mpm_itk"]
    connections = [KeepAlive(httpd.port) for _ in range(6)]
    for number in range(1, 4):
        for connection in connections:
            assert connection.ask()[0] == 200
        wait_parks(lingerd, 6 * number)
    for connection in connections:
        connection.socket.close()
    wait_parked(lingerd, 0)
    assert not [pid for pid in proc.session_members(httpd.pid) if proc.state(pid) == "Z"]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_itk_changes_users(sandbox):
    """A process of mpm_itk that has become one site's user can't become another's. A connection that
    comes back has a new one: each request is served by its own site's user, by one connection."""
    loads = _load("mpm_itk_module", "mpm_itk.so")
    sites = "".join(f"""
<VirtualHost 127.0.0.1:@main@>
  ServerName {user}
  AssignUserID {user} nogroup
</VirtualHost>
""" for user in ("nobody", "daemon"))
    httpd, lingerd = keepalive.site(sandbox, "prefork", workers=2, config=loads + """
LimitUIDRange 1 65535
LimitGIDRange 1 65535
""" + sites)
    httpd.allowed_lines += ["AH00161", "mpm_itk", "Permission denied", "AH00132"]
    for user in ("nobody", "daemon"):
        secret = httpd.directory / "www" / f"{user}.txt"
        secret.write_text(user)
        os.chown(secret, pwd.getpwnam(user).pw_uid, 0)
        secret.chmod(0o400)
    parked = 0
    with KeepAlive(httpd.port) as connection:
        for user, file, status in (("nobody", "nobody", 200), ("daemon", "daemon", 200),
                                   ("daemon", "nobody", 403), ("nobody", "nobody", 200)):
            assert connection.ask(f"/{file}.txt", host=user)[0] == status, (user, file)
            parked += 1
            wait_parks(lingerd, parked)
    wait_parked(lingerd, 0)
    assert lingerd.counters()["LingerReturned"] == 3
