# SPDX-License-Identifier: Apache-2.0
"""Handlers of every kind that stop in the middle, or behind the end, until the test lets them go on:
files that the handler waits for, and backends in threads of the test."""
import contextlib
import struct

from harness import backend, httpd_conf, places
from harness.waiting import wait_until

WAIT = 60  # seconds that a handler waits for its gate, if nobody opens it

PHP = {
    # Whole at once by its length, and then at work.
    "length-flush": 'header("Content-Length: " . (4000000 + 3)); readfile("{big}"); flush();'
                    ' {wait} echo "end";',
    "chunked-flush": 'echo file_get_contents("{big}"); flush(); {wait} echo "end";',
    "chunked-none": 'echo file_get_contents("{big}"); {wait} echo "end";',
    # The answer, and then the rest of the request's body.
    "duplex": 'echo file_get_contents("{big}"); flush(); echo strlen(file_get_contents("php://input"));',
}
_PHP_WAIT = ('for ($i = 0; $i < {polls} && !file_exists("{gate}"); $i++)'
             ' {{ usleep(20000); clearstatcache(); }} @unlink("{gate}");')

_PERL = r"""
package Linger::Gates;
use strict;
use Apache2::RequestRec ();
use Apache2::RequestIO ();
use Apache2::RequestUtil ();
use Apache2::Response ();
use APR::Table ();
use APR::Pool ();
use Apache2::Const -compile => qw(OK);

sub big { local $/; open my $file, '<', '{big}' or die $!; my $text = <$file>; $text }
sub wait_for_gate {
  for (1 .. {polls}) { last if -e '{gate}'; select undef, undef, undef, 0.02; }
  unlink '{gate}';
}
sub handler {
  my $r = shift;
  $r->content_type('text/plain');
  my $kind = $r->args;
  $r->headers_out->set('Content-Length' => 4000003) if $kind eq 'length-flush';
  $r->print(big());
  $r->rflush if $kind =~ /flush|duplex/;
  if ($kind eq 'duplex') {
    my ($length, $got, $data) = (0, 0, '');
    $length += $got while $got = $r->read($data, 65536);
    $r->print($length);
  } elsif ($kind eq 'terminate') {
    # As Apache2::SizeLimit does: in a cleanup handler.
    $r->push_handlers(PerlCleanupHandler => sub { $_[0]->child_terminate; 0 });
  } elsif ($kind =~ /^cleanup/) {
    $r->push_handlers(PerlCleanupHandler => sub { wait_for_gate(); 0 });
  } else {
    wait_for_gate();
    $r->print('end');
  }
  return Apache2::Const::OK;
}
1;
"""


def _render(text, httpd, gate):
    for name, value in (("big", httpd.directory / "www" / "4m.bin"), ("gate", gate),
                        ("polls", WAIT * 50)):
        text = text.replace("{" + name + "}", str(value))
    return text


class Gate:
    """What a handler waits for. Backends may be told of it before there is an httpd: where the file is,
    is known when that one gets its handlers."""
    path = None

    def open(self):
        self.path.touch()

    def wait_taken(self):
        wait_until(lambda: not self.path.exists(), "the handler goes on")

    def wait(self):
        """In a backend."""
        with contextlib.suppress(AssertionError):
            wait_until(self.path.exists, "the gate opens", WAIT)
        self.path.unlink(missing_ok=True)


def perl_config():
    """None where mod_perl isn't installed."""
    if not (places.HTTPD_MODULES / "mod_perl.so").exists():
        return None
    return f"""
LoadModule perl_module "{places.HTTPD_MODULES}/mod_perl.so"
PerlRequire "@dir@/run/gates.pl"
<Location /perl>
  SetHandler modperl
  PerlResponseHandler Linger::Gates
</Location>
"""


def php_config():
    load = httpd_conf.php_module()
    return load and load + """
<FilesMatch "\\.php$">
  SetHandler application/x-httpd-php
</FilesMatch>
"""


def write_handlers(httpd, gate):
    """Scripts of all kinds; the directory of the gate is the handlers' to write."""
    gate.path = httpd.directory / "run" / "gate"
    (httpd.directory / "run").chmod(0o777)
    (httpd.directory / "run" / "gates.pl").write_text(_render(_PERL, httpd, gate.path))
    wait = _render(_PHP_WAIT.replace("{{", "{").replace("}}", "}"), httpd, gate.path)
    for name, text in PHP.items():
        script = _render(text.replace("{wait}", wait), httpd, gate.path)
        (httpd.directory / "www" / f"{name}.php").write_text("<?php " + script)
    for name, head in (("length", "Content-Length: 4000003\\r\\n"), ("chunked", "")):
        script = httpd.directory / "cgi" / f"pause-{name}"
        script.write_text(_render(
            f"#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n{head}\\r\\n'\ncat {{big}}\n"
            "i=0; while [ ! -e {gate} ] && [ $i -lt {polls} ]; do i=$((i+1)); sleep 0.02; done\n"
            "rm -f {gate}\nprintf end\n", httpd, gate.path))
        script.chmod(0o755)
    # Its answer is complete, and it goes on, with its standard error still open.
    script = httpd.directory / "cgi" / "works-on"
    script.write_text(_render(
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\nContent-Length: 4000000\\r\\n\\r\\n'\n"
        "cat {big}\nexec >&-\n"
        "i=0; while [ ! -e {gate} ] && [ $i -lt {polls} ]; do i=$((i+1)); sleep 0.02; done\n"
        "rm -f {gate}\n", httpd, gate.path))
    script.chmod(0o755)


@contextlib.contextmanager
def http_backend(gate, body):
    """Without a length: chunked. The port."""
    def answer(client):
        with client, contextlib.suppress(OSError):
            backend.read_head(client)
            client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                           b"%x\r\n%b\r\n" % (len(body), body))
            gate.wait()
            client.sendall(b"3\r\nend\r\n0\r\n\r\n")

    with backend.accepting(answer, WAIT) as port:
        yield port


_FCGI_STDIN, _FCGI_STDOUT, _FCGI_END = 5, 6, 3


def _fcgi_record(kind, content):
    return struct.pack("!BBHHBB", 1, kind, 1, len(content), 0, 0) + content


def _read_exactly(client, size):
    data = b""
    while len(data) < size:
        chunk = client.recv(size - len(data))
        if not chunk:
            raise ConnectionError("httpd has gone")
        data += chunk
    return data


@contextlib.contextmanager
def fcgi_backend(gate, body):
    """As much of FastCGI as mod_proxy_fcgi asks for. The port."""
    def answer(client):
        with client, contextlib.suppress(OSError):
            while True:
                _, kind, _, length, padding, _ = struct.unpack("!BBHHBB", _read_exactly(client, 8))
                _read_exactly(client, length + padding)
                if kind == _FCGI_STDIN and length == 0:
                    break
            output = b"Content-Type: text/plain\r\n\r\n" + body
            for at in range(0, len(output), 65000):
                client.sendall(_fcgi_record(_FCGI_STDOUT, output[at:at + 65000]))
            gate.wait()
            client.sendall(_fcgi_record(_FCGI_STDOUT, b"end") + _fcgi_record(_FCGI_STDOUT, b"") +
                           _fcgi_record(_FCGI_END, bytes(8)))

    with backend.accepting(answer, WAIT) as port:
        yield port
