"""Descriptors: what is read, what is refused, and how they are written."""

import base64
import json
import pickle
from dataclasses import FrozenInstanceError

import pytest
from anytext import texts
from hypothesis import given
from hypothesis import strategies as st

from ocistore.errors import ManifestInvalidError
from ocistore.oci.descriptor import Descriptor, Platform
from ocistore.oci.digest import Digest

HELLO = Digest.of(b"hello")
PLAIN = {"mediaType": "application/x", "digest": str(HELLO), "size": 5}
FULL = {
    **PLAIN,
    "urls": ["https://a.example/1", "https://b.example/2"],
    "annotations": {"org.opencontainers.image.title": "héllo", "": ""},
    "data": base64.b64encode(b"hello").decode(),
    "artifactType": "application/vnd.x",
    "platform": {
        "architecture": "arm64",
        "os": "linux",
        "os.version": "6.1",
        "os.features": ["a", "b"],
        "variant": "v8",
    },
}


def test_a_full_descriptor_is_read_whole():
    assert Descriptor.from_json(FULL, path="x") == Descriptor(
        media_type="application/x",
        digest=HELLO,
        size=5,
        annotations={"org.opencontainers.image.title": "héllo", "": ""},
        platform=Platform("arm64", "linux", os_version="6.1", os_features=("a", "b"), variant="v8"),
        artifact_type="application/vnd.x",
        urls=("https://a.example/1", "https://b.example/2"),
        data=b"hello",
    )


@pytest.mark.parametrize("document", [PLAIN, FULL])
def test_it_is_written_as_it_was_read_in_the_order_of_the_specification(document):
    assert json.dumps(Descriptor.from_json(document, path="x").to_json()) == json.dumps(document)


@pytest.mark.parametrize("document", [PLAIN, FULL])
def test_it_pickles_and_hashes_and_cannot_be_changed(document):
    descriptor = Descriptor.from_json(document, path="x")
    again = pickle.loads(pickle.dumps(descriptor))
    assert again == descriptor
    assert len({again, descriptor}) == 1
    assert type(again.digest) is Digest
    with pytest.raises(FrozenInstanceError):
        descriptor.size = 6


def test_annotations_count_for_equality():
    assert Descriptor("a/b", HELLO, 5, {"a": "1"}) != Descriptor("a/b", HELLO, 5, {"a": "2"})


def test_empty_values_are_not_written():
    assert Descriptor("application/x", HELLO, 5).to_json() == PLAIN
    assert Platform("arm64", "linux").to_json() == {"architecture": "arm64", "os": "linux"}


def test_empty_data_is_written_because_it_is_not_absent():
    empty = Descriptor("application/x", Digest.of(b""), 0, data=b"")
    assert empty.to_json()["data"] == ""
    assert Descriptor.from_json(empty.to_json(), path="x") == empty


def test_an_optional_property_that_is_null_counts_as_absent():
    nulls = dict.fromkeys(("urls", "annotations", "data", "artifactType", "platform"))
    assert Descriptor.from_json(PLAIN | nulls, path="x") == Descriptor.from_json(PLAIN, path="x")
    platform = {"architecture": "arm64", "os": "linux"}
    nulls = dict.fromkeys(("os.version", "os.features", "variant"))
    assert Platform.from_json(platform | nulls, path="x") == Platform("arm64", "linux")


@pytest.mark.parametrize(
    "empty",
    [
        {"artifactType": ""},
        {"annotations": {}},
        {"urls": []},
        {"data": ""},
        {"platform": {}},
    ],
    ids=str,
)
def test_an_optional_property_that_is_empty_counts_as_absent(empty):
    assert Descriptor.from_json(PLAIN | empty, path="x") == Descriptor.from_json(PLAIN, path="x")


@pytest.mark.parametrize(
    ("architecture", "os", "stated"), [("", "", False), ("", "linux", False), ("x", "", False), ("x", "y", True)]
)
def test_a_platform_that_says_nothing_or_half_is_kept_and_known_as_that(architecture, os, stated):
    platform = {"architecture": architecture, "os": os}
    found = Descriptor.from_json(PLAIN | {"platform": platform}, path="x")
    assert found.to_json()["platform"] == platform
    assert found.platform.is_stated is stated
    assert found.stated_platform == (found.platform if stated else None)


def test_unknown_properties_are_ignored():
    assert Descriptor.from_json(PLAIN | {"x": 1, "features": []}, path="x") == Descriptor.from_json(PLAIN, path="x")


@pytest.mark.parametrize("size", [0, 1, 2**53 + 1, 2**63 - 1])
def test_sizes_reach_from_nothing_to_an_int64(size):
    assert Descriptor.from_json(PLAIN | {"size": size}, path="x").size == size


@pytest.mark.parametrize(
    ("change", "path"),
    [
        *[({"size": size}, ".size") for size in (True, False, 5.0, -1, 2**63, 10**60, "5", None, [5], {})],
        *[({"mediaType": text}, ".mediaType") for text in ("", "x", "a/b\n", "a/b\r\nc", "a/b;c=d", None, 5, [])],
        *[
            ({"digest": text}, ".digest")
            for text in (
                "",
                "sha256",
                f"{HELLO}\n",
                HELLO.upper(),
                f"sha256:{'A' * 64}",
                "sha256:00",
                "sha256:../../x",
                "md5:5d41402abc4b2a76b9719d911017c592",
                None,
                5,
                [str(HELLO)],
            )
        ],
        ({"urls": "https://a.example"}, ".urls"),
        ({"urls": {}}, ".urls"),
        ({"urls": ["https://a.example", 5]}, ".urls[1]"),
        ({"urls": [None]}, ".urls[0]"),
        ({"annotations": []}, ".annotations"),
        ({"annotations": "a"}, ".annotations"),
        *[({"annotations": {"a": value}}, ".annotations") for value in (1, None, True, ["b"], {})],
        *[({"artifactType": text}, ".artifactType") for text in ("x", "a/b\n", 5, False, 0, [])],
        *[
            ({"data": text}, ".data")
            for text in (
                "aGVsbG8",
                "aGVsbG8=\n",
                " aGVsbG8=",
                "aGVs\nbG8=",
                "aGVsbG9=",
                "aGVsbG8==",
                "aGVsbG8=aGVsbG8=",
                "aGVs_-8=",
                "é",
                "!",
                "aGVsbG8h",
                "SGVsbG8=",
                5,
                [],
                True,
            )
        ],
        *[({"platform": bad}, ".platform") for bad in ([], "linux/arm64", {"os": "linux"}, {"architecture": "x"})],
        ({"platform": {"os": 1, "architecture": "x"}}, ".platform.os"),
        ({"platform": {"os": "linux", "architecture": None}}, ".platform.architecture"),
        ({"platform": {"os": "linux", "architecture": "x", "variant": 8}}, ".platform.variant"),
        ({"platform": {"os": "linux", "architecture": "x", "os.version": 8}}, ".platform.os.version"),
        ({"platform": {"os": "linux", "architecture": "x", "os.features": "a"}}, ".platform.os.features"),
        ({"platform": {"os": "linux", "architecture": "x", "os.features": [1]}}, ".platform.os.features[0]"),
        ({"platform": {"os": "linux", "architecture": "x", "OS": "windows"}}, ".platform"),
        ({"Digest": str(Digest.of(b"other"))}, ""),
        ({"SIZE": 6}, ""),
        ({"\u017fize": 6}, ""),  # a long s, which Go's reader folds to s
    ],
)
def test_what_is_wrong_is_refused_and_its_place_named(change, path):
    with pytest.raises(ManifestInvalidError) as caught:
        Descriptor.from_json(PLAIN | change, path="layers[2]")
    assert caught.value.path == f"layers[2]{path}"
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("key", PLAIN)
def test_what_is_missing_is_named(key):
    with pytest.raises(ManifestInvalidError, match=f"needs {key}") as caught:
        Descriptor.from_json({name: value for name, value in PLAIN.items() if name != key}, path="config")
    assert caught.value.path == "config"


@pytest.mark.parametrize("value", [None, [], "x", 5, True])
def test_what_is_no_object_is_refused(value):
    with pytest.raises(ManifestInvalidError, match="not an object"):
        Descriptor.from_json(value, path="config")


def test_embedded_data_is_checked_against_size_and_digest():
    data = base64.b64encode(b"hello").decode()
    with pytest.raises(ManifestInvalidError, match="has 5 bytes, the descriptor says 6"):
        Descriptor.from_json(PLAIN | {"data": data, "size": 6}, path="x")
    with pytest.raises(ManifestInvalidError, match="has digest"):
        Descriptor.from_json(PLAIN | {"data": data, "digest": Digest.of(b"hellO")}, path="x")
    sha512 = PLAIN | {"data": data, "digest": Digest.of(b"hello", "sha512")}
    assert Descriptor.from_json(sha512, path="x").data == b"hello"


@pytest.mark.parametrize(
    ("platform", "text"),
    [(Platform("amd64", "linux"), "linux/amd64"), (Platform("arm64", "linux", variant="v8"), "linux/arm64/v8")],
)
def test_a_platform_prints_as_people_write_it(platform, text):
    assert str(platform) == text
    assert pickle.loads(pickle.dumps(platform)) == platform


words = texts(max_size=20)
platforms = st.builds(
    Platform, words, words, os_version=words, os_features=st.lists(words, max_size=3).map(tuple), variant=words
)


@given(
    content=st.binary(max_size=50),
    algorithm=st.sampled_from(["sha256", "sha512", "blake3"]),
    annotations=st.dictionaries(words, words, max_size=3),
    platform=st.none() | platforms,
    artifact_type=st.none() | st.just("application/vnd.x+json"),
    urls=st.lists(words, max_size=3).map(tuple),
    embed=st.booleans(),
)
def test_what_is_written_reads_back_the_same(*, content, algorithm, annotations, platform, artifact_type, urls, embed):
    descriptor = Descriptor(
        "application/x",
        Digest.of(content, algorithm),
        len(content),
        annotations,
        platform,
        artifact_type,
        urls,
        content if embed else None,
    )
    assert Descriptor.from_json(json.loads(json.dumps(descriptor.to_json())), path="x") == descriptor
