# SPDX-License-Identifier: Apache-2.0
"""A certificate for a session, and a TLS client that tells close_notify from FIN."""
import ssl
import subprocess

from harness import clients

VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


# Of a curve: an RSA key is found in a quarter of a second, which hundreds of sites would wait for.
CURVE_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
# Its signatures have all the same length, where those of a curve differ by a byte or two.
RSA_KEY = ("-newkey", "rsa:2048")


def make_certificate_at(path, subject, *arguments, key=CURVE_KEY):
    """Signed by itself, unless the arguments say by whom; its key beside it."""
    subprocess.run(["openssl", "req", "-x509", *key,
                    "-nodes", "-keyout", path.with_suffix(".key"), "-out", path, "-days", "2",
                    "-subj", subject, *arguments], check=True, capture_output=True)


def make_certificate(directory, key=CURVE_KEY):
    """Writes tls.key and tls.crt (self-signed, for localhost); the certificate's path."""
    certificate = directory / "tls.crt"
    make_certificate_at(certificate, "/CN=localhost",
                        "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
                        "-addext", "basicConstraints=critical,CA:FALSE", key=key)
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


def client_context(version=None, alpn=None):
    """Trusts everybody, and so needs none of this machine's certificates, which take long to read."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if version:
        context.minimum_version = context.maximum_version = VERSIONS[version]
    if alpn:
        context.set_alpn_protocols([alpn])
    return context


class Buffered:
    """TLS over buffers of our own and `self.socket`, so that the goodbye of TLS and that of TCP are seen
    apart."""
    fin = False
    AbruptEnd = ConnectionError  # what a FIN without close_notify raises

    def _shake_hands(self, context, name="localhost", session=None):
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=name,
                                    session=session)
        self._run(self.tls.do_handshake)

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
                    raise self.AbruptEnd("FIN without close_notify") from None
                self._incoming.write(data)


class TlsClient(Buffered):
    """One request, or a few that wait for each other."""

    def __init__(self, port, version=None, alpn=None, receive_buffer=None):
        self.socket = clients.connect(port, receive_buffer)
        self._shake_hands(client_context(version, alpn))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

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
