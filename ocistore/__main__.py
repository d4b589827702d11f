"""``python -m ocistore``: the command line."""

from __future__ import annotations

from ocistore.cli import main

if __name__ == "__main__":
    main()
