# SPDX-License-Identifier: Apache-2.0
"""What a proxy in front of httpd does to it: clients that share a pool of kept connections and send POSTs,
which may not be sent twice. A connection that ends without an answer is a 502 to a client. Run as a
program, so that several use several processors."""
import collections
import json
import pathlib
import socket
import subprocess
import sys
import threading

_POST = (b"POST /hello.txt HTTP/1.1\r\nHost: localhost\r\nContent-Length: 200\r\n\r\n" + b"x" * 200)
_ANSWERED = b"hello, world\n"


class _Pool:
    def __init__(self, port, requests):
        self.port = port
        self.idle = []
        self.todo = collections.deque(range(requests))
        self.ends = {"answered": 0, "bad gateway": 0}

    def _connection(self):
        try:
            return self.idle.pop()
        except IndexError:
            connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection

    def _ask(self, connection):
        """The answer, or None where the connection ended first."""
        answer = b""
        try:
            connection.sendall(_POST)
            while not answer.endswith(_ANSWERED):
                chunk = connection.recv(65536)
                if not chunk:
                    return None
                answer += chunk
        except ConnectionError:
            return None
        return answer

    def client(self):
        while True:
            try:
                self.todo.pop()
            except IndexError:
                return
            connection = self._connection()
            answer = self._ask(connection)
            self.ends["answered" if answer else "bad gateway"] += 1
            if answer and b"Connection: close" not in answer:
                self.idle.append(connection)
            else:
                connection.close()

    def run(self, clients):
        threads = [threading.Thread(target=self.client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for connection in self.idle:
            connection.close()


def post(port, requests, *, processes=2, clients=10):
    """{"answered": how many requests were, "bad gateway": how many weren't}"""
    running = [subprocess.Popen(
        [sys.executable, "-m", "harness.front_pool", str(port), str(requests // processes),
         str(clients)],
        cwd=pathlib.Path(__file__).parent.parent, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)]
    ends = collections.Counter()
    for process in running:
        ends.update(json.loads(process.communicate(timeout=300)[0]))
    return ends


if __name__ == "__main__":
    _pool = _Pool(int(sys.argv[1]), int(sys.argv[2]))
    _pool.run(int(sys.argv[3]))
    print(json.dumps(_pool.ends))
