# SPDX-License-Identifier: Apache-2.0
import pathlib
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1] / "integration")]

import debs  # noqa: E402
import virtual_machine  # noqa: E402


@pytest.fixture(scope="session")
def vm():
    try:
        made = virtual_machine.VirtualMachine(debs.built())
    except virtual_machine.CannotBoot as why:
        pytest.skip(f"lsm-test skipped: {why}")
    yield made
    made.close()
