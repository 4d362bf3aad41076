# SPDX-License-Identifier: Apache-2.0
"""Runs build/ablinger."""
import json
import signal
import subprocess

from servers import ABLINGER


class Load:
    """A load under way. Options are ablinger's long ones, with _ for -; True is a bare flag."""

    def __init__(self, url, **options):
        command = [str(ABLINGER), url, "--json", "-"]
        for name, value in options.items():
            flag = "--" + name.replace("_", "-")
            if value is True:
                command.append(flag)
            elif value is not None and value is not False:
                command += [flag, str(value)]
        # A session of its own: Ctrl-C on the terminal is for the one who started the load.
        self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL,
                                         stdout=subprocess.PIPE, text=True,
                                         start_new_session=True)

    @property
    def pid(self):
        return self._process.pid

    def running(self):
        return self._process.poll() is None

    def stop(self):
        """Ends it, if it hasn't by itself."""
        if self.running():
            self._process.send_signal(signal.SIGTERM)
            self._process.communicate()

    def result(self):
        """Waits for the end: what it found, as a dictionary."""
        output, _ = self._process.communicate()
        if not output:
            raise RuntimeError(f"ablinger exited with {self._process.returncode}")
        return json.loads(output)


def run_load(url, **options):
    load = Load(url, **options)
    try:
        return load.result()
    finally:
        load.stop()
