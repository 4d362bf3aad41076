# SPDX-License-Identifier: Apache-2.0
"""Sites with LingerKeepAliveTLS, and clients that keep their TLS connection."""
import ssl

from harness import clients, logs, places, tls
from harness.keepalive import KeepAlive

SUITES = ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256")
MODULES = ("ssl", "socache_shmcb", "headers", "env", "rewrite", "reqtimeout")


def directives(after_ms=20):
    return (f'LoadModule linger_tls_module "{places.MODULE_TLS}"\n'
            f"LingerKeepAliveTLS On\nLingerKeepAliveTLSAfter {after_ms}\n")


def configuration(box, *, extra="", after_ms=20, modules=(), config="", **options):
    """Of an httpd that parks TLS connections of the virtual host at port "tls", into which `extra`
    goes."""
    certificate = tls.make_certificate(box.directory)
    return {"ports": ("tls",), "modules": (*MODULES, *modules),
            "linger_directives": "LingerKeepAlive On\n" + directives(after_ms),
            "config": "KeepAliveTimeout 60\nMaxKeepAliveRequests 0\n" + config
                      + tls.vhost(certificate, extra=extra), **options}


def site(box, mpm, *lingerd_arguments, **options):
    """(such an httpd, lingerd)"""
    httpd, lingerd = box.site(mpm, *lingerd_arguments, **configuration(box, **options))
    # Workers wait some milliseconds themselves: a few quick clients make all of them busy.
    httpd.allowed_lines.append(logs.ALL_BUSY)
    return httpd, lingerd


class TlsKeepAlive(tls.Buffered, KeepAlive):
    """A TLS connection that asks again and again: what comes is counted in records."""
    AbruptEnd = clients.NoResponse

    def __init__(self, port, *, name="localhost", alpn=None, context=None, session=None,
                 **options):
        super().__init__(port, **options)
        self._shake_hands(context or client_context(alpn), name, session)

    def write(self, data):
        self._run(lambda: self.tls.write(data))

    def records(self, data):
        """The records that carry `data`, not sent yet."""
        self.tls.write(data)
        return self._outgoing.read()

    def send(self, path="/hello.txt", *headers, **options):
        self.write(clients.request(path, *headers, close=False, **options))

    def _fill(self):
        chunk = self._run(lambda: self.tls.read(65536))
        if not chunk:
            raise clients.NoResponse(f"close_notify after {bytes(self.received[:200])!r}")
        self.received += chunk

    def goodbye(self):
        """close_notify, and the FIN behind it."""
        try:
            self.tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLError):
            pass
        self._flush()
        self.socket.close()


def client_context(alpn=None):
    return tls.client_context("1.3", alpn)


def client_certificate(directory, subject="/CN=somebody"):
    path = directory / "client.pem"
    tls.make_certificate_at(path, subject)
    return path
