# SPDX-License-Identifier: Apache-2.0
"""What stock httpd says in a set-up, of itself: a warning that it gives without our module, too, is no
failure of ours (mod_ssl beside another OpenSSL than it was built with, for one). The same
configuration without the module is started, asked once, restarted gracefully and stopped; which lines
that leaves is learned once for each set-up, when a server of this set-up says something unexpected."""
import contextlib
import os
import re
import signal
import subprocess

from harness import clients, httpd_conf, places, proc
from harness.logs import LogFile
from harness.ports import ReservedPort
from harness.waiting import wait_until

_OURS = re.compile(r"^\s*Linger\w*\s.*$", re.MULTILINE | re.IGNORECASE)
_STAMP = re.compile(r"^(?:\[[^]]*\d{4}\] )?|\[pid [^]]*\] ")
_SERVES = "resuming normal operations"
_known = {}


def pattern_of(line):
    """The line without what differs from one start to the next: time, process, numbers."""
    return re.sub(r"\d+", "N", _STAMP.sub("", line))


def without_stocks(lines, httpd):
    """Those of an httpd's lines that stock httpd in its set-up doesn't write."""
    if not lines:
        return []
    learned = lines_of(httpd)
    return [line for line in lines if pattern_of(line) not in learned]


def lines_of(httpd):
    """Patterns of what stock httpd writes in this server's set-up; none where that doesn't start."""
    setup = _render(httpd, {})
    if setup not in _known:
        _known[setup] = _learn(httpd)
    return _known[setup]


def _render(httpd, ports):
    configuration = {name: _OURS.sub("", value) if name == "config" else value
                     for name, value in httpd.configuration.items() if name != "linger_directives"}
    return httpd_conf.render("@dir@", httpd.mpm, ports, **configuration)


def _learn(httpd):
    """In the server's own directory, where its certificates are; what it makes goes elsewhere."""
    for name in ("stock-run", "stock-logs"):
        (httpd.directory / name).mkdir(exist_ok=True)
    if places.am_root():
        os.chown(httpd.directory / "stock-run", *places.httpd_user()[1:])
    ports = {name: ReservedPort() for name in httpd.ports}
    text = _render(httpd, {name: port.number for name, port in ports.items()})
    text = re.sub(r"(?<![\w/])(run|logs)(?![\w.])", r"stock-\1", text)
    config = httpd.directory / "stock.conf"
    config.write_text(text.replace("@dir@", str(httpd.directory)))
    error_log, console = (LogFile(httpd.directory / "stock-logs" / name)
                          for name in ("error.log", "console.log"))
    try:
        served = _run_once(httpd, config, ports["main"].number, error_log, console)
    finally:
        for port in ports.values():
            port.release()
    return {pattern_of(line) for line in error_log.lines() + console.lines()} if served else set()


def _run_once(httpd, config, port, error_log, console):
    with open(console.path, "ab") as output:
        process = subprocess.Popen(
            [places.HTTPD, "-d", str(httpd.directory), "-f", str(config), "-DFOREGROUND"],
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            preexec_fn=proc.end_with_us)

    def has_started(times):
        return process.poll() is not None or len(error_log.matching(_SERVES)) >= times

    try:
        wait_until(lambda: has_started(1), "stock httpd serves")
        with contextlib.suppress(OSError, clients.NoResponse):
            clients.fetch(port, "/hello.txt")
        if process.poll() is None:
            process.send_signal(signal.SIGUSR1)
        wait_until(lambda: has_started(2), "stock httpd serves again")
        return process.poll() is None
    finally:
        if process.poll() is None:
            process.terminate()
        process.wait(30)
