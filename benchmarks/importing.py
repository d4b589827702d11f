"""What ``import ocistore`` costs beside what it stands on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.harness import Row, compared, interleave

if TYPE_CHECKING:
    from benchmarks.harness import Setup

_BOUND: Final = 1.2
_CHECKOUT: Final = Path(__file__).resolve().parent.parent
_PROGRAM: Final = "import time; t = time.perf_counter(); {}; print(time.perf_counter() - t)"


def importing(setup: Setup) -> list[Row]:
    """In fresh interpreters with compiled bytecode; the interpreter's own start is not counted."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def seconds_for(statement: str) -> float:
        done = subprocess.run(
            [sys.executable, "-c", _PROGRAM.format(statement)],
            check=True,
            capture_output=True,
            text=True,
            cwd=_CHECKOUT,
            env=environment,
        )
        return float(done.stdout)

    seconds = interleave(
        setup.sizes.import_rounds,
        {
            "ocistore": lambda _: seconds_for("from ocistore import Store"),
            "sqlalchemy": lambda _: seconds_for("import sqlalchemy"),
        },
    )
    return [
        compared(
            "import-module",
            "from ocistore import Store, in a fresh interpreter",
            ours=seconds["ocistore"],
            floor=seconds["sqlalchemy"],
            floor_is="import sqlalchemy",
            bound=_BOUND,
        )
    ]
