# SPDX-License-Identifier: Apache-2.0
"""The peers: private httpds and nginxes on loopback, shaped for measuring (one listener, a fixed
number of workers, no access log)."""
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "t/integration"))

from harness import places, proc  # noqa: E402
from harness.lingerd import Lingerd  # noqa: E402
from harness.waiting import wait_until  # noqa: E402

ABLINGER = places.BUILD / "ablinger"
NGINX = os.environ.get("NGINX", "/usr/sbin/nginx")


def interrupt_on_signals():
    """Ctrl-C, kill and a closed terminal all end in KeyboardInterrupt, once: the cleaning up that
    follows is not to be interrupted."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(*_):
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    for number in numbers:
        signal.signal(number, interrupt)


def free_port():
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def port_is_free(port):
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def document_root(directory, files):
    """A directory that every peer serves; `files` maps names to contents."""
    root = directory / "www"
    root.mkdir(mode=0o755, exist_ok=True)
    for name, text in files.items():
        (root / name).write_bytes(text)
    return root


class Server:
    """A program with all its processes in one session of their own."""

    def __init__(self, name, directory, port=None):
        self.name = name
        self.directory = directory / name
        self.directory.mkdir(mode=0o755)
        self.port = port or free_port()
        self.pid = None
        self._process = None

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"

    def start(self, command, ready_path="/"):
        with open(self.directory / "console.log", "ab") as console:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=console,
                                             stderr=console, start_new_session=True)
        self.pid = self._process.pid
        wait_until(lambda: self._ready(ready_path), lambda: f"{self.name} serves\n{self.logs()}")

    def _ready(self, path):
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} exited with {self._process.returncode}:\n"
                               + self.logs())
        try:
            with urllib.request.urlopen(self.url(path), timeout=5) as response:
                return response.status == 200
        except OSError:
            return False

    def logs(self):
        return "\n".join(path.read_text(errors="replace")[-2000:]
                         for path in sorted(self.directory.glob("*.log")))

    def pids(self):
        return proc.session_members(self.pid)

    def stop(self):
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            pass
        for pid in self.pids():  # children that a busy parent left behind
            os.kill(pid, signal.SIGKILL)
        self._process.wait(10)
        self._process = None


_MPM_PROCESSES = """\
StartServers {n}
ServerLimit {n}
MinSpareServers {n}
MaxSpareServers {n}
MaxRequestWorkers {n}
"""
_MPM_THREADS = """\
StartServers {processes}
ServerLimit {processes}
ThreadLimit {threads}
ThreadsPerChild {threads}
MinSpareThreads {n}
MaxSpareThreads {n}
MaxRequestWorkers {n}
"""


class Httpd(Server):
    """httpd with a fixed number of workers, stock or, given a lingerd, with the module."""

    MODULES = ("authz_core", "mime", "dir", "reqtimeout", "status")

    def __init__(self, name, directory, www, mpm, *, workers, lingerd=None, port=None,
                 linger_config="", config="", php=False):
        super().__init__(name, directory, port)
        self.mpm = mpm
        self.lingerd = lingerd
        self.status_port = self.port  # where it is looked at
        loads = [f"mpm_{mpm}", *self.MODULES]
        lines = [f"LoadModule {m}_module {places.HTTPD_MODULES}/mod_{m}.so" for m in loads]
        if php:
            library = sorted(places.HTTPD_MODULES.glob("libphp*.so"))[-1]
            lines += [f"LoadModule php_module {library}", "<FilesMatch \\.php$>",
                      "  SetHandler application/x-httpd-php", "</FilesMatch>"]
        if lingerd:
            lines += [f"LoadModule linger_module {places.MODULE}",
                      f"LingerSocket {lingerd.socket_path}", linger_config]
        self._write(www, lines, self._mpm(workers), config)

    def _mpm(self, workers):
        if self.mpm == "prefork":
            self.children_count = workers
            return _MPM_PROCESSES.format(n=workers)
        threads = min(workers, 25)
        self.children_count = workers // threads
        return _MPM_THREADS.format(n=workers, threads=threads, processes=self.children_count)

    def _write(self, www, lines, mpm, config):
        user = ""
        if places.am_root():
            name, _, gid = places.httpd_user()
            user = f"User {name}\nGroup #{gid}\n"
        (self.directory / "httpd.conf").write_text("\n".join(lines) + f"""
ServerRoot {self.directory}
ServerName localhost
Listen 127.0.0.1:{self.port}
{user}{mpm}
PidFile httpd.pid
DefaultRuntimeDir {self.directory}
Mutex file:{self.directory} default
ErrorLog error.log
LogLevel warn
TypesConfig /dev/null
DocumentRoot {www}
KeepAlive Off
GracefulShutdownTimeout 5
# As in Debian's apache2.conf.
<Directory />
  Options FollowSymLinks
  AllowOverride None
</Directory>
<Location /server-status>
  SetHandler server-status
</Location>
{config}
""")

    def start(self):
        command = [places.HTTPD, "-f", str(self.directory / "httpd.conf"), "-DFOREGROUND"]
        super().start(command, "/server-status?auto")
        wait_until(lambda: len(self.pids()) > self.children_count, "all children of httpd are there")

    def status(self, timeout=10):
        """server-status?auto as {key: text}. It takes its turn among the clients: with all
        workers busy it waits as they do, and says what was true when it was served."""
        url = f"http://127.0.0.1:{self.status_port}/server-status?auto"
        with urllib.request.urlopen(url, timeout=timeout) as response:
            lines = response.read().decode().splitlines()
        return dict(line.split(": ", 1) for line in lines if ": " in line)

    def linger_counters(self):
        return {k: int(v) for k, v in self.status().items() if k.startswith("Linger")}


class Nginx(Server):
    """nginx that lingers always, serving the files itself or as a proxy."""

    def __init__(self, name, directory, www, *, workers=2, backend=None, lingering_timeout="5s",
                 lingering_time="30s", tls=None):
        super().__init__(name, directory)
        user = f"user {places.httpd_user()[0]};" if places.am_root() else ""
        secure = ""
        if tls:  # (port, certificate)
            secure = (f"listen 127.0.0.1:{tls[0]} ssl; ssl_certificate {tls[1]}; "
                      f"ssl_certificate_key {tls[1].with_suffix('.key')};")
        location = (f"proxy_pass http://127.0.0.1:{backend.port};" if backend else f"root {www};")
        (self.directory / "nginx.conf").write_text(f"""
{user}
worker_processes {workers};
worker_rlimit_nofile 20000;
daemon off;
pid {self.directory}/nginx.pid;
error_log {self.directory}/error.log warn;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_timeout 0;
  lingering_close always;
  lingering_timeout {lingering_timeout};
  lingering_time {lingering_time};
  client_body_temp_path {self.directory}/body;
  proxy_temp_path {self.directory}/proxy;
  fastcgi_temp_path {self.directory}/fastcgi;
  uwsgi_temp_path {self.directory}/uwsgi;
  scgi_temp_path {self.directory}/scgi;
  server {{
    listen 127.0.0.1:{self.port};
    {secure}
    location / {{ {location} }}
  }}
}}
""")

    def start(self, path):
        super().start([NGINX, "-e", f"{self.directory}/error.log", "-p", str(self.directory),
                       "-c", str(self.directory / "nginx.conf")], path)


class PrivateLingerd(Lingerd):
    def replace(self):
        """It goes on as a new program with all its sockets, under the same pid."""
        os.kill(self.pid, signal.SIGUSR2)

    def stop(self):
        """Doesn't wait for clients that stay: nobody needs them any more."""
        if not self.running():
            return
        self.terminate()
        try:
            self.wait(2)
        except subprocess.TimeoutExpired:
            self.kill()


class Peers:
    """A private directory and the servers in it; leaving it stops and removes all of them."""

    def __init__(self, name):
        self.directory = places.private_dir(name)
        self._servers = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in reversed(self._servers):
            server.stop()
        shutil.rmtree(self.directory)

    def add(self, server):
        """`server` is stopped in the end, whether it starts or not."""
        self._servers.append(server)
        return server

    def lingerd(self, name, *arguments):
        server = self.add(PrivateLingerd(self.directory, *arguments, name=name, start=False))
        server.start()
        return server
