# SPDX-License-Identifier: Apache-2.0
"""A certificate for a session, and a TLS client that tells close_notify from FIN."""
import ssl
import subprocess

from harness import clients

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


def make_certificate(directory):
    """Writes tls.key and tls.crt (self-signed, for localhost); the certificate's path."""
    certificate = directory / "tls.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048",
         "-nodes", "-keyout", directory / "tls.key", "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
         "-addext", "basicConstraints=critical,CA:FALSE"],
        check=True, capture_output=True)
    return certificate


def vhost(certificate, port="@tls@", extra=""):
    """A TLS server on a port of its own."""
    return f"""
SSLSessionCache shmcb:run/ssl_scache(512000)
Listen 127.0.0.1:{port}
<VirtualHost 127.0.0.1:{port}>
  SSLEngine On
  SSLCertificateFile "{certificate}"
  SSLCertificateKeyFile "{certificate.with_suffix(".key")}"
  {extra}
</VirtualHost>
"""


class TlsClient:
    """TLS over buffers of our own, so that the goodbye of TLS and that of TCP are seen apart."""

    def __init__(self, port, version=None, alpn=None, receive_buffer=None):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if version:
            context.minimum_version = context.maximum_version = VERSIONS[version]
        if alpn:
            context.set_alpn_protocols([alpn])
        self.socket = clients.connect(port, receive_buffer)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname="localhost")
        self.fin = False
        self._run(self.tls.do_handshake)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def _flush(self):
        if data := self._outgoing.read():
            self.socket.sendall(data)

    def _run(self, operation):
        while True:
            try:
                result = operation()
                self._flush()
                return result
            except ssl.SSLWantReadError:
                self._flush()
                data = self.socket.recv(65536)
                if not data:
                    self.fin = True
                    raise ConnectionError("FIN without close_notify") from None
                self._incoming.write(data)

    def send(self, data):
        self._run(lambda: self.tls.write(data))

    def read(self, size=65536):
        """The next bytes; empty at close_notify. ConnectionError at a FIN without one."""
        return self._run(lambda: self.tls.read(size))

    def read_to_close_notify(self):
        received = bytearray()
        while chunk := self.read():
            received += chunk
        return bytes(received)

    def wait_fin(self):
        """Waits for the server's FIN, with this end still open."""
        assert self.socket.recv(1) == b""
        self.fin = True
