"""A forked child never goes on as a second pytest."""

import os
import signal
import time

import pytest


def test_a_child_that_comes_back_out_of_its_test_is_ended():
    child = os.fork()
    if child == 0:
        raise RuntimeError("out of the test")
    until = time.monotonic() + 30
    while not (ended := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            pytest.fail("it goes on")
        time.sleep(0.01)
    assert os.waitstatus_to_exitcode(ended[1]) == 1
