"""Artifacts: pack files and directories as one, write them back, and list what refers to what.

Written and read as ``oras`` does it, so that either takes what the other made.
"""

from ocistore.artifacts.layers import LayerForm
from ocistore.artifacts.packing import UNKNOWN_ARTIFACT, attach_files, check_files, push_files
from ocistore.artifacts.pulling import PullReport, pull_files
from ocistore.artifacts.referrers import Referrer, ReferrerTree, discover, referrers_of
from ocistore.artifacts.titles import EXECUTABLE, TITLE, is_packed_directory, title_components
from ocistore.artifacts.walking import Dereference
from ocistore.oci.mediatypes import OCTET_STREAM

__all__ = [
    "EXECUTABLE",
    "OCTET_STREAM",
    "TITLE",
    "UNKNOWN_ARTIFACT",
    "Dereference",
    "LayerForm",
    "PullReport",
    "Referrer",
    "ReferrerTree",
    "attach_files",
    "check_files",
    "discover",
    "is_packed_directory",
    "pull_files",
    "push_files",
    "referrers_of",
    "title_components",
]
