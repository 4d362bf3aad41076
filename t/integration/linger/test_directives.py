# SPDX-License-Identifier: Apache-2.0
"""What `apachectl -t` says about a configuration, and that it only looks at it."""
import socket

import pytest


@pytest.fixture
def check(sandbox):
    """check(directives for the main server, config=…) gives (exit code, output) of -t."""
    httpd = sandbox.httpd("event", socket_path=sandbox.directory / "nobody.sock", start=False)

    def run(directives="", config="", socket_path=None):
        if socket_path is not None:
            httpd.socket_path = socket_path
        httpd.write_config(linger_directives=directives, config=config)
        return httpd.config_test()

    return run


@pytest.mark.parametrize("directives", [
    "Linger On", "Linger Off", "linger on", "LingerTimeout 5", "LingerTimeout 1ms",
    "LingerTimeout 3600", "LingerTimeout 250ms", "LingerTime 1h", "LingerTime 2min",
    "LingerTime 3600s", "LingerTime 3600000ms", "LingerFallback inline", "LingerFallback close",
])
def test_good_values(check, directives):
    """Would catch a range or a unit that is refused though the contract has it."""
    code, output = check(directives)
    assert code == 0, output
    assert "Syntax OK" in output


@pytest.mark.parametrize("name", ["mod_linger.c", "linger_module"])
def test_if_module(check, name):
    """Both ways to name a module."""
    code, output = check(config=f"<IfModule {name}>\nLinger Perhaps\n</IfModule>\n")
    assert code != 0 and "is neither On nor Off" in output, output


DURATIONS = ["0", "0ms", "-1", "3601", "3600001ms", "61min", "2h", "soon", "5 s", "5sec", "1.5",
             "5x", "99999999999999999999", "ms"]


@pytest.mark.parametrize("directive", ["LingerTimeout", "LingerTime"])
@pytest.mark.parametrize("value", DURATIONS)
def test_bad_durations(check, directive, value):
    """Would catch a value that is taken, cut or read as another, and a message that doesn't say
    which directive, what it was given and what is allowed."""
    code, output = check(f'{directive} "{value}"')
    assert code == 1, output
    assert f"{directive}:" in output
    assert f"'{value}'" in output
    assert "1ms to 3600s" in output or "1 ms to 3600 s" in output


@pytest.mark.parametrize("directive, value, allowed", [
    ("Linger", "Maybe", ["On", "Off"]),
    ("Linger", "1", ["On", "Off"]),
    ("LingerFallback", "open", ["inline", "close"]),
])
def test_bad_words(check, directive, value, allowed):
    """The same for directives that take words."""
    code, output = check(f'{directive} "{value}"')
    assert code == 1, output
    assert f"{directive}" in output and f"'{value}'" in output
    assert all(word in output for word in allowed)


@pytest.mark.parametrize("directive",
                         ["Linger", "LingerTimeout", "LingerTime", "LingerFallback", "LingerSocket"])
def test_missing_and_extra_arguments(check, directive):
    """Would catch a directive that swallows a second word, or does without the first."""
    for arguments in ("", '""', "On 5"):
        code, output = check(f"{directive} {arguments}")
        assert code == 1, output
        assert f"{directive} takes one argument" in output


def socket_path_of(length):
    return "/tmp/" + "s" * (length - len("/tmp/"))


def test_socket_path_length(check):
    """sun_path has 108 bytes with the terminating zero. Would catch a path that is cut."""
    assert check(socket_path=socket_path_of(107))[0] == 0
    code, output = check(socket_path=socket_path_of(108))
    assert code == 1
    assert "LingerSocket" in output and socket_path_of(108) in output and "107" in output


def test_socket_only_in_the_main_server(check):
    """Would catch a second socket that no child would ever connect to."""
    code, output = check(config="<VirtualHost *:9>\nLingerSocket /tmp/x.sock\n</VirtualHost>")
    assert code == 1
    assert "LingerSocket" in output and "VirtualHost" in output


@pytest.mark.parametrize("directive", ["Linger Off", "LingerTimeout 5", "LingerTime 5",
                                       "LingerFallback close"])
def test_where_directives_go(check, directive):
    """Servers and virtual hosts have them; directories and locations don't (a connection has no
    directory). Would catch a setting that is accepted where it can't work."""
    assert check(config=f"<VirtualHost *:9>\n{directive}\n</VirtualHost>")[0] == 0
    code, output = check(config=f"<Location /x>\n{directive}\n</Location>")
    assert code == 1 and directive.split()[0] in output


def test_missing_daemon_is_no_error(check):
    """Would catch a check that fails where nothing listens at LingerSocket."""
    code, output = check(socket_path="/nonexistent/lingerd.sock")
    assert code == 0 and "linger" not in output.lower(), output


def test_never_connects(sandbox):
    """Would catch a -t that bothers a running lingerd."""
    path = sandbox.directory / "watched.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(path))
        listener.listen()
        path.chmod(0o777)
        listener.setblocking(False)
        httpd = sandbox.httpd("prefork", socket_path=path, start=False)
        code, output = httpd.config_test()
        assert code == 0, output
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_ifmodule_by_its_identifier(check):
    """The documented way to make directives optional. Would catch a renamed module record."""
    code, output = check("<IfModule !linger_module>\nNonsense\n</IfModule>")
    assert code == 0, output
