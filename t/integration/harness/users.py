# SPDX-License-Identifier: Apache-2.0
"""Other users, as lingerd sees its peers."""
import contextlib
import os

import pytest

from harness import places

needs_root = pytest.mark.skipif(not places.am_root(), reason="needs users to be")


@contextlib.contextmanager
def as_user(uid):
    """What SO_PEERCRED sees of a connection that this test makes."""
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
