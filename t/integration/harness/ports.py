# SPDX-License-Identifier: Apache-2.0
"""Loopback ports that stay ours. A socket that is bound with SO_REUSEADDR but doesn't listen keeps
the kernel from giving the port to anybody else, and lets a server of ours bind and listen on it."""
import socket


class ReservedPort:
    def __init__(self):
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("127.0.0.1", 0))
        self.number = self._socket.getsockname()[1]

    def release(self):
        self._socket.close()
