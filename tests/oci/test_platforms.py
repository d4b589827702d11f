"""Choosing platforms: what is asked for, and what is left of an index."""

import json

import pytest
from images import image

from ocistore import Digest, InvalidNameError, PlatformNotFoundError
from ocistore.oci import mediatypes
from ocistore.oci.descriptor import Descriptor, Platform
from ocistore.oci.manifest import check_manifest
from ocistore.oci.platforms import is_wanted, narrow


@pytest.mark.parametrize(
    ("wanted", "platform", "is_one"),
    [
        ("linux/amd64", Platform("amd64", "linux"), True),
        ("linux/x86_64", Platform("amd64", "linux"), True),
        ("linux/aarch64", Platform("arm64", "linux", variant="v8"), True),
        ("linux/arm64", Platform("arm64", "linux"), True),
        ("linux/arm64/v8", Platform("arm64", "linux"), True),
        ("linux/arm/v7", Platform("arm", "linux"), True),
        ("linux/arm/v6", Platform("arm", "linux"), False),
        ("linux/arm", Platform("arm", "linux", variant="v6"), True),
        ("linux/amd64", Platform("amd64", "windows"), False),
        ("windows/amd64", Platform("amd64", "windows", "10.0.1"), True),
        ("windows(10.0)/amd64", Platform("amd64", "windows", "10.0.1"), True),
        ("windows(10.0.1)/amd64", Platform("amd64", "windows", "10.0.17763"), False),
        ("windows(10.0.1)/amd64", Platform("amd64", "windows"), True),
        ("windows/amd64:10.0.1", Platform("amd64", "windows", "10.0.2"), False),
        ("linux(+a+b)/amd64", Platform("amd64", "linux", os_features=("b",)), True),
        ("linux(+a)/amd64", Platform("amd64", "linux", os_features=("a", "b")), False),
        ("linux/amd64", Platform("amd64", "linux", os_features=("a", "b")), True),
        ("linux/amd64", Platform("x86_64", "linux"), True),
    ],
)
def test_what_runs_where(wanted, platform, is_one):
    assert is_wanted(platform, [Platform.parse(wanted)]) is is_one


@pytest.mark.parametrize(
    "text",
    [
        "",
        "linux",
        "linux/",
        "/amd64",
        "linux/arm/v7/x",
        "linux/a b",
        None,
        "a\n/b",
        "windows(10/amd64",
        "()/amd64",
        "windows(10)/amd64:10",
        "linux/amd64:",
        "linux(+)/amd64",
        "linux/" + "a" * 1000,
        5,
    ],
)
def test_what_is_no_platform_is_refused(text):
    with pytest.raises(InvalidNameError):
        Platform.parse(text)


@pytest.mark.parametrize(
    "text", ["linux/arm64", "linux/arm/v7", "windows(10.0.17763.1)/amd64", "linux(+a+b)/amd64", "w(1+a)/amd64/v2"]
)
def test_a_platform_is_written_as_it_is_read(text):
    assert str(Platform.parse(text)) == text


def descriptor(content, *, platform=None, annotations=None, media_type=mediatypes.OCI_MANIFEST):
    found = {"mediaType": media_type, "digest": Digest.of(content), "size": len(content)}
    if platform:
        os, architecture = platform.split("/")
        found["platform"] = {"os": os, "architecture": architecture}
    return found | ({"annotations": annotations} if annotations else {})


def made(children, **more):
    document = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": children, **more}
    return json.dumps(document, indent=3).encode()


ARM, AMD, NOTE = image("arm").manifest, image("amd").manifest, image("note").manifest
INNER = made([descriptor(ARM, platform="linux/arm64"), descriptor(AMD, platform="linux/amd64")])
OUTER = made(
    [
        descriptor(INNER, media_type=mediatypes.OCI_INDEX),
        descriptor(AMD, platform="linux/amd64"),
        descriptor(NOTE, platform="unknown/unknown", annotations={"vnd.docker.reference.digest": Digest.of(AMD)}),
    ],
    annotations={"kept": "as it was"},
    unknown={"kept": [1, 2]},
)
STORE = {Digest.of(content): check_manifest(content) for content in (INNER, OUTER)}


def narrowed(content, *wanted, platform_of=lambda _: None):
    root = Descriptor.from_json(descriptor(content, media_type=mediatypes.OCI_INDEX), path="")
    return narrow(
        root, [Platform.parse(text) for text in wanted], fetch=lambda d: STORE[d.digest], platform_of=platform_of
    )


def test_an_index_with_fewer_children_is_another_index():
    found = narrowed(OUTER, "linux/amd64")
    inner, outer = found.made.values()
    assert [child.digest for child in inner.manifests] == [Digest.of(AMD)]
    assert [child.digest for child in outer.manifests] == [inner.descriptor.digest, Digest.of(AMD), Digest.of(NOTE)]
    assert found.descriptor.digest == outer.descriptor.digest
    assert json.loads(outer.content)["unknown"] == {"kept": [1, 2]}
    assert outer.annotations == {"kept": "as it was"}
    assert list(found.available) == ["linux/arm64", "linux/amd64"]


def test_an_attestation_goes_with_what_it_is_about():
    outer = list(narrowed(OUTER, "linux/arm64").made.values())[-1]
    assert Digest.of(NOTE) not in [child.digest for child in outer.manifests]


def test_an_index_that_loses_nothing_stays_itself():
    for wanted in ([], ["linux/arm64", "linux/amd64"]):
        found = narrowed(OUTER, *wanted)
        assert (found.descriptor.digest, found.made) == (Digest.of(OUTER), {})


def test_nothing_may_be_left():
    found = narrowed(OUTER, "linux/s390x")
    assert (found.descriptor, found.made) == (None, {})
    error = PlatformNotFoundError("app:v1", wanted=["linux/s390x"], available=list(found.available))
    assert str(error) == "app:v1 is not for linux/s390x: there are linux/arm64, linux/amd64"


def test_where_a_descriptor_says_none_the_config_decides():
    content = made([descriptor(ARM), descriptor(AMD), descriptor(NOTE)])
    STORE[Digest.of(content)] = check_manifest(content)
    platforms = {Digest.of(ARM): Platform("arm64", "linux"), Digest.of(AMD): Platform("amd64", "linux")}
    found = narrowed(content, "linux/arm64", platform_of=lambda d: platforms.get(d.digest))
    (only,) = found.made.values()
    assert [child.digest for child in only.manifests] == [Digest.of(ARM), Digest.of(NOTE)]


def test_an_older_variant_is_kept_where_the_wanted_one_is_not_there():
    content = made([descriptor(ARM, platform="linux/arm"), descriptor(AMD, platform="linux/arm")])
    document = json.loads(content)
    document["manifests"][0]["platform"]["variant"] = "v5"
    document["manifests"][1]["platform"]["variant"] = "v6"
    content = json.dumps(document).encode()
    STORE[Digest.of(content)] = check_manifest(content)
    for wanted in (["linux/arm/v7"], ["linux/arm/v8", "linux/s390x"], ["linux/arm/v6"]):
        (only,) = narrowed(content, *wanted).made.values()
        assert [child.digest for child in only.manifests] == [Digest.of(AMD)]
    assert narrowed(content, "linux/arm/v4").descriptor is None


def test_the_same_index_in_many_is_looked_into_once():
    seen = []
    content = INNER
    for _ in range(40):  # by every path there would be 2 to the power of 40 of them
        content = made([descriptor(content, media_type=mediatypes.OCI_INDEX)] * 2)
        STORE[Digest.of(content)] = check_manifest(content)
    root = Descriptor.from_json(descriptor(content, media_type=mediatypes.OCI_INDEX), path="")
    narrow(
        root,
        [Platform.parse("linux/arm64")],
        fetch=lambda d: seen.append(d) or STORE[d.digest],
        platform_of=lambda _: None,
    )
    assert len(seen) == 41
