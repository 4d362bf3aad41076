# SPDX-License-Identifier: Apache-2.0
"""Clients that keep a web server busy: each reads a whole response, stays a moment, and closes. They
count what they got, and remember what went wrong."""
import threading

from harness import clients


class Load:
    def __init__(self, path, body, count=20, stay=0.05):
        self._path = path
        self._body = body
        self._stay = stay
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.whole = 0
        self.problems = []
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self):
        while not self._stop.is_set():
            problem = self._visit()
            with self._lock:
                if problem:
                    self.problems.append(problem)
                else:
                    self.whole += 1

    def _visit(self):
        try:
            with clients.connect(80) as client:
                client.sendall(clients.request(self._path))
                status, body = clients.split(clients.read_to_fin(client))
                self._stop.wait(self._stay)
            return None if (status, body) == (200, self._body) else f"{status}, {len(body)} bytes"
        except (OSError, AssertionError) as failure:
            return repr(failure)
