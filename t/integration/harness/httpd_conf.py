# SPDX-License-Identifier: Apache-2.0
"""The text of a private httpd's configuration."""
import functools
import os
import subprocess

from harness import places, sanitized

MPMS = ("prefork", "worker", "event")

# Common enough that each configuration has them; what is compiled in is left out.
_ALWAYS = ("authz_core", "authz_host", "mime", "alias", "dir", "headers", "status", "log_config",
           "logio", "unixd")

# Times and ports aside, what a request left behind: compared with stock httpd's.
ACCESS_FORMAT = "%h %>s %b %O %I %X %k %m %U %H %f %D %{linger}n"


@functools.cache
def _built_in():
    names = subprocess.run([places.HTTPD, "-l"], capture_output=True, text=True, check=True).stdout
    return {line.strip().removeprefix("mod_").removesuffix(".c") for line in names.splitlines()}


def _load(name):
    if name in _built_in():
        return ""
    return f'LoadModule {name}_module "{places.HTTPD_MODULES}/mod_{name}.so"\n'


def _mpm(mpm, workers, processes):
    if mpm == "prefork":
        return (f"StartServers {workers}\nMinSpareServers 1\nMaxSpareServers {workers}\n"
                f"ServerLimit {workers}\nMaxRequestWorkers {workers}\n")
    # Spare slots in ServerLimit: processes that finish gracefully keep theirs for a while.
    return (f"StartServers {processes}\nServerLimit {processes * 4}\n"
            f"ThreadLimit {workers}\nThreadsPerChild {workers}\n"
            f"MinSpareThreads 1\nMaxSpareThreads {workers * processes + workers}\n"
            f"MaxRequestWorkers {workers * processes}\n")


def _user():
    if not places.am_root():
        return ""
    name, _, _ = places.httpd_user()
    return f"User {name}\nGroup #{places.httpd_user()[2]}\n"


def _dumpable():
    """LeakSanitizer traces a child that ends, which one that has changed its user doesn't allow."""
    return "CoreDumpDirectory run\n" if sanitized.module_is_sanitized() else ""


def _linger(mpm, socket_path, directives):
    """With LINGER_KEEP_ALIVE set, everything is tried with parking as well; event has its own way."""
    parks = "LingerKeepAlive On\n" if os.environ.get("LINGER_KEEP_ALIVE") and mpm != "event" else ""
    return (f'LoadModule linger_module "{places.MODULE}"\n'
            f'LingerSocket "{socket_path}"\n{parks}{directives}')


def php_module():
    """The LoadModule line of mod_php, or None where it isn't installed."""
    found = sorted(places.HTTPD_MODULES.glob("libphp*.so"))
    return f'LoadModule php_module "{found[-1]}"\n' if found else None


_TEMPLATE = """\
{loads}{linger}
ServerRoot "@dir@"
ServerName localhost
PidFile run/httpd.pid
DefaultRuntimeDir run
Mutex file:run default
ErrorLog logs/error.log
LogLevel {log_level}
{user}{mpm}
{dumpable}Timeout 20
KeepAlive {keepalive}
KeepAliveTimeout 5
# The kernel takes a whole large response, so that httpd is through long before a slow client is.
SendBufferSize 1048576
GracefulShutdownTimeout 20
Listen 127.0.0.1:@main@
Listen 127.0.0.1:@status@
DocumentRoot "@dir@/www"
TypesConfig /dev/null
LogFormat "{access_format}" full
CustomLog logs/access.log full
<Directory "@dir@/www">
  Require all granted
</Directory>
{config}
# A server of its own, so that looking at the counters hands nothing over.
<VirtualHost 127.0.0.1:@status@>
  ServerName localhost
  {status_off}
  KeepAlive Off
  CustomLog logs/status.log full
  <Location /server-status>
    SetHandler server-status
    Require all granted
  </Location>
</VirtualHost>
"""


def render(directory, mpm, ports, *, socket_path=None, linger_directives="", workers=4,
           processes=1, modules=(), config="", log_level="notice", keepalive=True,
           status_off="Linger Off", loads_before=""):
    """`ports` maps names to numbers; @name@ in `config` becomes the number, @dir@ the directory.
    `socket_path` None leaves mod_linger out; `loads_before` are LoadModule lines before its own."""
    loads = _load(f"mpm_{mpm}") + "".join(_load(m) for m in dict.fromkeys(_ALWAYS + tuple(modules)))
    linger = _linger(mpm, socket_path, linger_directives) if socket_path else ""
    text = _TEMPLATE.format(
        loads=loads + loads_before, linger=linger, log_level=log_level, user=_user(),
        mpm=_mpm(mpm, workers, processes), dumpable=_dumpable(), keepalive="On" if keepalive else "Off",
        access_format=ACCESS_FORMAT, config=config, status_off=status_off if socket_path else "")
    for name, number in ports.items():
        text = text.replace(f"@{name}@", str(number))
    return text.replace("@dir@", str(directory))
