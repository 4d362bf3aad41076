# SPDX-License-Identifier: Apache-2.0
"""Log files that a test reads on from where it stands, and the rule which lines are expected."""
import re

# Start, restart and stop of each MPM, and the command line: the only notices of a quiet httpd.
_QUIET_NOTICES = {
    "AH00094",
    "AH00163", "AH00169", "AH00170", "AH00171", "AH00173",
    "AH00292", "AH00295", "AH00296", "AH00297", "AH00298",
    "AH00489", "AH00491", "AH00492", "AH00493", "AH00494",
}
# A child that is ending still has its slot when the next one is wanted: what worker and event say of
# the few slots that a test gives them is no fault.
_FULL_SCOREBOARD = {"AH00288", "AH03490"}
_LINE = re.compile(r"^\[[^]]+\] \[(?P<module>[\w-]*):(?P<level>\w+)\] \[pid \d+(?::tid \d+)?\] "
                   r"(?P<rest>.*)$")
_SANITIZER = re.compile(r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|"
                        r"SUMMARY: \w+Sanitizer")


class LogFile:
    """A file that somebody appends to. `since` gives the lines after a mark."""

    def __init__(self, path):
        self.path = path
        self._checked = 0

    def text(self):
        try:
            return self.path.read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def lines(self):
        return self.text().splitlines()

    def mark(self):
        return len(self.lines())

    def since(self, mark):
        return self.lines()[mark:]

    def matching(self, pattern, since=0):
        return [line for line in self.since(since) if re.search(pattern, line)]

    def unchecked(self):
        """The lines that no check has seen yet."""
        lines = self.lines()
        fresh, self._checked = lines[self._checked:], len(lines)
        return fresh

    def tail(self, count=40):
        return "\n".join(self.lines()[-count:])


def httpd_line_is_quiet(line):
    """Whether httpd may write this line in a run where nothing goes wrong."""
    match = _LINE.match(line)
    if not match:
        return False
    if match["level"] in ("info", "debug") or match["level"].startswith("trace"):
        return True
    number = re.search(r"\b(AH\d{5}): ", match["rest"])
    if not number:
        return False
    return (number[1] in _FULL_SCOREBOARD
            or (match["level"] == "notice" and number[1] in _QUIET_NOTICES))


def parse_httpd_line(line):
    """(module, level, message) of an error-log line, or None."""
    match = _LINE.match(line)
    return (match["module"], match["level"], match["rest"]) if match else None


def lingerd_line_is_quiet(line):
    """The same for lingerd's log: its first word and its last."""
    return bool(re.match(r"lingerd: (\d\S* listens at |stopping: \d+ sockets? )", line))


def sanitizer_lines(text):
    return [line for line in text.splitlines() if _SANITIZER.search(line)]


def unexpected(lines, is_quiet, allowed):
    return [line for line in lines
            if line.strip() and not is_quiet(line)
            and not any(re.search(pattern, line) for pattern in allowed)]


# All workers are busy at the moment: expected wherever a test has fewer workers than clients.
ALL_BUSY = r"AH(00161|00286|00288|00484|10159): "
