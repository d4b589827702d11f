"""By how much the memory of this process grows at most: ``python -m benchmarks.memory STORE FILE FORM``.

FORM is how a blob is put, or ``archive``: then the file is imported; or ``export``: then all is exported to it.

The peak is asked of /proc and not of getrusage, whose figure a child inherits from a larger parent.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.big_blob import put
from ocistore import Store

if TYPE_CHECKING:
    from collections.abc import Callable


def main(root: str, source: str, form: str) -> None:
    """Print kibibytes."""
    with Store.open(root) as store:
        if form == "export":
            print(peak_growth(lambda: store.export(source)))
            return
        if form == "archive":
            print(peak_growth(lambda: store.import_(source, "library/big")))
            return
        store.repository("library/warm").put_blob(b"once, so that what is imported late is there")
        print(peak_growth(lambda: put(store, Path(source), form)))


def peak_growth(work: Callable[[], object]) -> int:
    """By how many kibibytes the memory of this process is larger than now, at most, while it works."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here (proc(5))
    before = _kibibytes("VmRSS")
    work()
    return _kibibytes("VmHWM") - before


def _kibibytes(name: str) -> int:
    found = re.search(rf"^{name}:\s+(\d+) kB$", Path("/proc/self/status").read_text(), re.MULTILINE)
    if found is None:
        raise OSError(f"/proc/self/status has no {name}")
    return int(found[1])


if __name__ == "__main__":
    main(*sys.argv[1:])
