"""What a test needs that may not be there: it is skipped then, or fails where nothing may be missing."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(reason: str) -> NoReturn:
    """Skip the test, or fail it where nothing may be missing (OCISTORE_REQUIRE_ALL)."""
    if os.environ.get("OCISTORE_REQUIRE_ALL"):
        pytest.fail(reason)
    pytest.skip(reason)


def require(*programs: str, install: str = "") -> None:
    """Go on only where these programs are on the path; ``install`` says how to get them there."""
    absent = [program for program in programs if shutil.which(program) is None]
    if absent:
        missing(f"needs {', '.join(absent)}{install and f': {install}'}")
