# SPDX-License-Identifier: Apache-2.0
"""The packages of `make deb`."""
import shutil
import subprocess

from machine import ROOT


def built():
    """The .deb files of modules and daemon, without debug symbols."""
    found = [path for path in sorted((ROOT / "build/deb").glob("*.deb"))
             if "-dbgsym_" not in path.name]
    assert [path.name.split("_")[0] for path in found] == [
        "libapache2-mod-linger-tls", "libapache2-mod-linger", "lingerd"]
    return found


def newer(package, directory):
    """The same package with a higher version."""
    tree = directory / package.stem
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN/control"
    lines = [line + "+newer" if line.startswith("Version:") else line
             for line in control.read_text().splitlines()]
    control.write_text("\n".join(lines) + "\n")
    path = directory / f"newer-{package.name}"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, path], check=True,
                   stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return path
