"""The files in images, seen through their layers: list them, and read one at a time, without extracting anything."""

from ocistore.images.choosing import choose_image
from ocistore.images.config import read_config
from ocistore.images.reading import ImageFileReader, list_files, open_file
from ocistore.images.stackedlayers import ImageFile

__all__ = [
    "ImageFile",
    "ImageFileReader",
    "choose_image",
    "list_files",
    "open_file",
    "read_config",
]
