# SPDX-License-Identifier: Apache-2.0
"""Sizes, checked: a file of at most 300 lines, a function of at most 40, its signature included. Tests
are exempt: a list of cases, each a story told in order."""

import ast
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
MOST_IN_FILE = 300
MOST_IN_FUNCTION = 40
TESTS = re.compile(r"(^|/)(test_\w+\.py|\w+_test\.cpp)$")

# Comments, strings and characters, whose braces mean nothing; only their line breaks stay.
NO_CODE = re.compile(r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'',
                     re.DOTALL)
DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
NO_FUNCTION = re.compile(r"^(?:template\s*<.*>\s*)?(?:typedef\s+)?(?:namespace|class|struct|enum|union|extern)\b",
                         re.DOTALL)
NAME = re.compile(r"([\w:~]+|operator\s*\S+)\s*\(")


def blank(match):
    return re.sub(r"[^\n]", " ", match[0])


def cpp_functions(text):
    """(name, first line, last line) of each function that isn't inside another one."""
    text = DIRECTIVE.sub(blank, NO_CODE.sub(blank, text))
    outer, begin, begun = [], 0, None  # braces around, of namespaces and classes; where this statement begins
    depth = 0  # of braces inside a function
    for at, char in enumerate(text):
        if depth:
            depth += (char == "{") - (char == "}")
            if depth == 0:
                name, start = begun
                yield name, text.count("\n", 0, start) + 1, text.count("\n", 0, at) + 1
                begin = at + 1
        elif char == "{":
            head = text[begin:at]
            start = begin + len(head) - len(head.lstrip())
            head = re.sub(r"^(?:\s*(?:public|private|protected)\s*:)+", "", head).strip()
            name = NAME.search(head)
            if head and not head.endswith("=") and not NO_FUNCTION.match(head):
                begun, depth = (name[1] if name else head, start), 1
            else:
                outer.append(at)
                begin = at + 1
        elif char == "}" and outer:
            outer.pop()
            begin = at + 1
        elif char == ";":
            begin = at + 1


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.name, node.lineno, node.end_lineno


def problems_of(name):
    text = (ROOT / name).read_text()
    lines = len(text.splitlines())
    if lines > MOST_IN_FILE:
        yield f"{name}: {lines} lines, {MOST_IN_FILE} at most: what in it is a room of its own?"
    functions = python_functions if name.endswith(".py") else cpp_functions
    for function, first, last in functions(text):
        if last - first + 1 > MOST_IN_FUNCTION:
            yield f"{name}:{first}: {function} has {last - first + 1} lines, {MOST_IN_FUNCTION} at most"


def main():
    listed = subprocess.run(["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.cpp", "*.h", "*.c",
                             "*.py"], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()
    names = [name for name in listed if (ROOT / name).is_file() and not TESTS.search(name)]
    problems = [problem for name in names for problem in problems_of(name)]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"sizes: {len(names)} files")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
