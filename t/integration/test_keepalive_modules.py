# SPDX-License-Identifier: Apache-2.0
"""Modules that keep something on connections, or count them: which ones LingerKeepAlive goes together
with, and that the others keep their connections."""
import glob
import os
import pwd
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


@pytest.mark.parametrize("what", ["evasive", "security", "reqtimeout", "remoteip", "unique_id", "dumpio",
                                  "php"])
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
    else:
        loads = _load("php_module", "libphp8.2.so")
    httpd, lingerd = keepalive.site(sandbox, "prefork", modules=modules, config=loads + config)
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


@pytest.mark.parametrize("config", ["", "QS_SrvMaxConnPerIP 3\n"])
def test_qos_keeps_its_connections(sandbox, config):
    """mod_qos counts connections, and would count one that returns as a new one."""
    pcre = sorted(glob.glob("/usr/lib/*/libpcre.so.3"))
    if not pcre:
        pytest.skip("there is no libpcre.so.3, which mod_qos forgets to name")
    loads = f"LoadFile {pcre[0]}\n" + _load("qos_module", "mod_qos.so")
    httpd, lingerd = keepalive.site(sandbox, "prefork", config=loads + config)
    httpd.allowed_lines += ["mod_qos", "AH00161"]
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
