"""The files in images, seen through their layers: list them, read one at a time, or unpack them all."""

from ocistore.images.choosing import choose_image
from ocistore.images.config import read_config
from ocistore.images.reading import ImageFileReader, list_files, open_file
from ocistore.images.stackedlayers import ImageFile
from ocistore.images.unpacking import LeftOut, UnpackReport, unpack

__all__ = [
    "ImageFile",
    "ImageFileReader",
    "LeftOut",
    "UnpackReport",
    "choose_image",
    "list_files",
    "open_file",
    "read_config",
    "unpack",
]
