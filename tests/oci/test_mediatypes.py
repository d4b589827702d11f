"""The grammar of media types, and the kinds a store tells apart."""

import pytest

from ocistore.errors import ManifestInvalidError
from ocistore.oci import mediatypes


@pytest.mark.parametrize(
    "text", ["a/b", "application/json", "application/vnd.x.y_z-1^2+json", "text/" + "a" * 127, "0/0"]
)
def test_media_types_come_back_as_they_are(text):
    assert mediatypes.media_type(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a",
        "/",
        "a/",
        "/b",
        "a/b/c",
        "a/b\n",
        "a/b\r\nX-Evil: 1",
        "a /b",
        "+a/b",
        "a/.b",
        "a/b; charset=utf-8",
        "é/b",
        "text/" + "a" * 128,
        "a\x00/b",
        None,
        5,
        b"a/b",
        ["a/b"],
        {},
    ],
)
def test_what_is_no_media_type_is_refused_and_its_place_named(text):
    with pytest.raises(ManifestInvalidError) as caught:
        mediatypes.media_type(text, path="layers[3].mediaType")
    assert caught.value.path == "layers[3].mediaType"


def test_every_constant_is_a_media_type_of_at_most_one_kind():
    values = {name: value for name, value in vars(mediatypes).items() if name.startswith(("OCI_", "DOCKER_"))}
    assert len(values) > 15
    for value in values.values():
        assert mediatypes.media_type(value) == value
        kinds = (
            mediatypes.is_manifest_type,
            mediatypes.is_index_type,
            mediatypes.is_image_config,
            mediatypes.is_nondistributable,
        )
        assert sum(kind(value) for kind in kinds) <= 1
    assert {name for name, value in values.items() if mediatypes.is_manifest_type(value)} == {
        "OCI_MANIFEST",
        "DOCKER_MANIFEST",
    }
    assert {name for name, value in values.items() if mediatypes.is_index_type(value)} == {"OCI_INDEX", "DOCKER_LIST"}
    assert {name for name, value in values.items() if mediatypes.is_image_config(value)} == {
        "OCI_CONFIG",
        "DOCKER_CONFIG",
    }
    assert {name for name, value in values.items() if mediatypes.is_nondistributable(value)} == {
        "DOCKER_FOREIGN_LAYER",
        "OCI_NONDISTRIBUTABLE_LAYER",
        "OCI_NONDISTRIBUTABLE_LAYER_GZIP",
        "OCI_NONDISTRIBUTABLE_LAYER_ZSTD",
    }
