# SPDX-License-Identifier: Apache-2.0
"""The figures behind docs/scale.md: what the kernel takes for a lingering socket, and lingerd's own
work with a million pretended ones. Needs root (/proc/slabinfo)."""
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from peers import Field, most_late_sockets  # noqa: E402
from servers import Peers, interrupt_on_signals, places  # noqa: E402
from single import LONG, lingering, settle  # noqa: E402

# What a held TCP socket is made of. The client's half is here as well: it has one of each too, as
# ablinger watches its sockets with epoll.
CACHES = ("TCP", "sock_inode_cache", "filp", "dentry", "eventpoll_epi", "eventpoll_pwq",
          "skbuff_head_cache", "tcp_bind_bucket", "tcp_bind2_bucket", "kmalloc-64", "kmalloc-96",
          "kmalloc-128", "kmalloc-192", "kmalloc-256", "kmalloc-512", "kmalloc-1k")


def slabs():
    """{cache: (objects in use, bytes each)}"""
    found = {}
    for line in pathlib.Path("/proc/slabinfo").read_text().splitlines()[2:]:
        name, active, _, size = line.split()[:4]
        found[name] = int(active), int(size)
    return found


def tcp_pages():
    """Pages that TCP holds for buffers, of the machine."""
    for line in pathlib.Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            return int(line.split()[-1])
    return 0


def kernel_memory(field):
    peer = field.fresh("prefork+", linger_config=LONG)
    settle(peer)
    count = most_late_sockets()
    before, pages = slabs(), tcp_pages()
    with lingering(peer, count):
        during, pages = slabs(), tcp_pages() - pages
    print(f"{count:,} lingering sockets and as many clients:")
    total = 0.0
    for name in CACHES:
        if name not in before:
            continue
        objects = (during[name][0] - before[name][0]) / count
        total += objects * before[name][1]
        if objects > 0.1:
            print(f"  {name:18} {objects:5.2f} of {before[name][1]:5} bytes")
    print(f"  in all {total:,.0f} bytes for both halves; TCP buffers: {pages} pages")


def main():
    interrupt_on_signals()
    simulation = places.BUILD / "scale_simulation"
    if os.geteuid() == 0:
        with Peers("scale") as servers:
            kernel_memory(Field(servers))
    if simulation.exists():
        subprocess.run([str(simulation)], check=True)


if __name__ == "__main__":
    main()
