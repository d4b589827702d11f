"""Write a manual page for each command, from its help, into share/man/man1 of the wheel."""  # noqa: INP001

import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface[Any]):
    """Adds the manual pages to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002
        """Write them, and name them as files to install."""
        sys.path.insert(0, self.root)
        try:
            # Those of the tree that is built.
            from ocistore.cli.commands import ocistore  # noqa: PLC0415
            from ocistore.cli.manpages import pages  # noqa: PLC0415
        finally:
            sys.path.remove(self.root)
        self._directory = tempfile.TemporaryDirectory(prefix="ocistore-man-")
        for name, text in pages(ocistore, self.metadata.version):
            path = Path(self._directory.name, f"{name}.1")
            path.write_text(text, encoding="utf-8")
            build_data["shared_data"][str(path)] = f"share/man/man1/{name}.1"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Remove them."""
        self._directory.cleanup()
