# SPDX-License-Identifier: Apache-2.0
"""Where things are, and a private directory for each run."""
import os
import pathlib
import pwd
import re
import stat
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[3]
BUILD = pathlib.Path(os.environ.get("LINGER_BUILD", ROOT / "build"))
MODULE = pathlib.Path(os.environ.get("MOD_LINGER", BUILD / "mod_linger.so"))
MODULE_TLS = pathlib.Path(os.environ.get("MOD_LINGER_TLS", MODULE.with_name("mod_linger_tls.so")))
LINGERD = pathlib.Path(os.environ.get("LINGERD", BUILD / "lingerd"))
LINGERCTL = pathlib.Path(os.environ.get("LINGERCTL", BUILD / "lingerctl"))
HTTPD = os.environ.get("HTTPD", "/usr/sbin/apache2")
HTTPD_MODULES = pathlib.Path(os.environ.get("HTTPD_MODULES", "/usr/lib/apache2/modules"))
HTTPD_USER = os.environ.get("HTTPD_USER", "www-data")

# sun_path holds 108 bytes; the longest name below a private directory needs about 40.
_LONGEST_BASE = 60


def am_root():
    return os.geteuid() == 0


def httpd_user():
    """The user that httpd's children run as: (name, uid, gid)."""
    entry = pwd.getpwnam(HTTPD_USER) if am_root() else pwd.getpwuid(os.geteuid())
    return entry.pw_name, entry.pw_uid, entry.pw_gid


def _traversable(path):
    """Whether httpd's children may walk into `path` after they have dropped root."""
    for directory in (path, *path.parents):
        if not directory.stat().st_mode & stat.S_IXOTH:
            return False
    return True


def private_dir(name):
    """A new directory under build/integration, or under /tmp where the build directory's path is
    too long for a socket or closed to httpd's user (a checkout in /root)."""
    base = BUILD / "integration"
    base.mkdir(parents=True, exist_ok=True)
    base.chmod(0o755)
    if len(str(base)) > _LONGEST_BASE or (am_root() and not _traversable(base)):
        base = pathlib.Path(tempfile.gettempdir())
    path = pathlib.Path(tempfile.mkdtemp(prefix=re.sub(r"\W.*", "", name)[:12] + "-", dir=base))
    path.chmod(0o755)
    return path
