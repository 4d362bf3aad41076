# SPDX-License-Identifier: Apache-2.0
"""httpd with a mod_linger that was built with ASan and UBSan: httpd itself isn't, so the runtime has
to be its first library, and libstdc++ the next, or the first exception aborts. What httpd and the
libraries of other modules leak is suppressed by name, in httpd.supp."""
import functools
import pathlib
import subprocess

from harness import places

# The leak checker itself, when it meets a child whose threads are ending: no report of a leak. And
# httpd's parent, when looking for leaks takes a child longer than it likes to wait.
NO_REPORT = [r"^Tracer caught signal ", r"==LeakSanitizer has encountered a fatal error",
             r"==HINT: ", r"AH00045: child process \d+ still did not exit"]
SUPPRESSIONS = pathlib.Path(__file__).with_name("httpd.supp")


# Modules whose leaks have no name any more when their library has been unloaded, by the parent's end.
LEAKY = ("php_module", "evasive20_module", "security2_module", "qos_module")


def foreign_leaks(config):
    return any(module in config for module in LEAKY)


def module_is_sanitized():
    return "asan" in places.MODULE.parent.name


def allowed_lines():
    return NO_REPORT if module_is_sanitized() else []


@functools.cache
def _runtime():
    return [subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True,
                           check=True).stdout.strip() for name in ("libasan.so", "libstdc++.so.6")]


def httpd_environment(extra=None, leaks=True):
    """What to set for an httpd, besides what `extra` says. `leaks`: whether to look for them."""
    extra = dict(extra or {})
    if not module_is_sanitized():
        return extra
    preload = [*_runtime(), *filter(None, [extra.pop("LD_PRELOAD", None)])]
    return {
        **extra,
        "LD_PRELOAD": " ".join(preload),
        # A child runs into its limit of descriptors, or is killed, on purpose in some tests: what
        # the runtime has to say goes to the ErrorLog, where each line fails the test.
        # httpd has a handler of its own for a crash, which says nothing: the runtime's says where.
        "ASAN_OPTIONS": f"detect_leaks={int(leaks)}:exitcode=99:detect_odr_violation=0:"
                        "verify_asan_link_order=0:"
                        "handle_segv=2:handle_sigbus=2:handle_sigfpe=2:handle_sigill=2",
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1:exitcode=99",
        # opcache is loaded with RTLD_DEEPBIND, which no sanitizer bears.
        "PHP_INI_SCAN_DIR": "",
        "LSAN_OPTIONS": f"suppressions={SUPPRESSIONS}:print_suppressions=0",
    }
