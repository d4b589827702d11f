"""Which image of an index is meant."""

import platform as machine

import pytest
from images import artifact, described, document, image, index, push

from ocistore import Digest, ImageConfig, InvalidNameError, ManifestInvalidError, PlatformNotFoundError
from ocistore.images import choose_image, read_config
from ocistore.images.choosing import own_platform
from ocistore.oci import mediatypes
from ocistore.oci.descriptor import Platform
from ocistore.oci.platforms import ATTESTED
from ocistore.oci.reference import Reference


def of_platforms(repository, *platforms, tag="many", said=True, more=()):
    """An index of images for these platforms, which its descriptors say, or only the images themselves."""
    children = []
    for text in platforms:
        parsed = Platform.parse(text)
        one = image(text, os=parsed.os, architecture=parsed.architecture, variant=parsed.variant)
        push(repository, one)
        children.append(described(one.manifest, one.media_type, **({"platform": parsed.to_json()} if said else {})))
    body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": [*children, *more]}
    repository.put_manifest(document(body), tags=[tag])
    return Reference(repository.name, tag)


def chosen(repository, reference, platform=None):
    """The platform of the image that is chosen."""
    manifest = choose_image(repository, reference, None if platform is None else Platform.parse(platform))
    return str(ImageConfig.parse(read_config(repository, manifest)).platform)


@pytest.mark.parametrize("said", [True, False])
def test_the_image_that_fits_is_taken(repository, said, monkeypatch):
    monkeypatch.setattr(machine, "machine", lambda: "x86_64")
    reference = of_platforms(repository, "linux/amd64", "linux/arm/v6", "linux/arm/v7", "windows/amd64", said=said)
    assert chosen(repository, reference) == "linux/amd64"
    assert chosen(repository, reference, "linux/arm/v7") == "linux/arm/v7"
    assert chosen(repository, reference, "windows/amd64") == "windows/amd64"
    monkeypatch.setattr(machine, "machine", lambda: "armv7l")
    assert chosen(repository, reference) == "linux/arm/v7"


def test_where_several_fit_the_exact_one_is_taken_or_the_one_that_is_implied(repository):
    reference = of_platforms(repository, "linux/amd64/v3", "linux/amd64")
    assert chosen(repository, reference, "linux/amd64") == "linux/amd64"
    reference = of_platforms(repository, "linux/arm/v6", "linux/arm/v7")
    assert chosen(repository, reference, "linux/arm") == "linux/arm/v7"
    reference = of_platforms(repository, "linux/amd64/v3", "linux/amd64/v2")
    assert chosen(repository, reference, "linux/amd64") == "linux/amd64/v2"


@pytest.mark.parametrize(
    ("there", "wanted", "taken"),
    [
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v7", "linux/arm/v6"),
        (["linux/arm/v5", "linux/arm/v6"], "linux/arm/v5", "linux/arm/v5"),
        (["linux/arm/v7"], "linux/arm/v6", None),
        (["linux/arm64/v9", "linux/arm64"], "linux/arm64/v8.2", "linux/arm64"),
        (["linux/amd64/v4", "linux/amd64"], "linux/amd64/v3", "linux/amd64"),
        (["linux/ppc64le/power9"], "linux/ppc64le/power10", None),
    ],
)
def test_an_older_variant_is_taken_where_a_newer_one_is_wanted_and_never_the_other_way_round(
    repository, there, wanted, taken
):
    reference = of_platforms(repository, *there)
    if taken is None:
        with pytest.raises(PlatformNotFoundError, match=there[0]):
            chosen(repository, reference, wanted)
    else:
        assert chosen(repository, reference, wanted) == taken


def listing(repository, *children, tag="v1"):
    """An index of images and artifacts, each with what its descriptor says besides."""
    entries = []
    for child, more in children:
        push(repository, child)
        entries.append(described(child.manifest, child.media_type, **more))
    body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": entries}
    repository.put_manifest(document(body), tags=[tag])
    return Reference(repository.name, tag)


def amd64(**more):
    return {"platform": {"architecture": "amd64", "os": "linux", **more}}


def windows(version, **more):
    return {"platform": {"architecture": "amd64", "os": "windows", "os.version": version, **more}}


GZIP, ZSTD, OLD, NEW = image("gzip"), image("zstd"), image("old"), image("new")
SOCI = artifact("soci", artifact_type="application/vnd.amazon.soci.index.v2+json")


def digest_of(repository, reference, platform=None):
    return choose_image(repository, reference, None if platform is None else Platform.parse(platform)).descriptor.digest


def test_of_two_that_fit_one_platform_the_first_is_taken(repository, monkeypatch):
    monkeypatch.setattr(machine, "machine", lambda: "x86_64")
    zstd = {**amd64(), "annotations": {"io.github.containers.compression.zstd": "true"}}
    for first, second in ([(GZIP, amd64()), (ZSTD, zstd)], [(ZSTD, zstd), (GZIP, amd64())]):
        reference = listing(repository, first, second)
        for wanted in (None, "linux/amd64"):
            assert digest_of(repository, reference, wanted) == first[0].digest


def test_what_needs_a_feature_that_nobody_asked_for_comes_last(repository):
    nydus = {"platform": {**amd64()["platform"], "os.features": ["nydus.remoteimage.v1"]}}
    reference = listing(repository, (NEW, nydus), (GZIP, amd64()))
    assert digest_of(repository, reference, "linux/amd64") == GZIP.digest
    assert digest_of(repository, reference, "linux(+nydus.remoteimage.v1)/amd64") == NEW.digest
    reference = listing(repository, (NEW, nydus))
    assert digest_of(repository, reference, "linux/amd64") == NEW.digest
    with pytest.raises(PlatformNotFoundError, match=r"there are linux\(\+nydus.remoteimage.v1\)/amd64"):
        digest_of(repository, reference, "linux(+another)/amd64")


def test_what_is_no_image_is_none_though_it_says_a_platform(repository):
    for more in ({"artifactType": "application/vnd.amazon.soci.index.v2+json"}, {}):
        reference = listing(repository, (SOCI, {**amd64(), **more}), (GZIP, amd64()))
        assert digest_of(repository, reference, "linux/amd64") == GZIP.digest
    assert digest_of(repository, listing(repository, (SOCI, amd64())), "linux/amd64") == SOCI.digest


@pytest.mark.parametrize(
    ("wanted", "taken"),
    [
        ("windows/amd64", OLD),
        ("windows(10.0.20348)/amd64", NEW),
        ("windows/amd64:10.0.20348", NEW),
        ("windows(10.0.20348.2)/amd64", NEW),
        ("windows(10.0)/amd64", OLD),
        ("windows(10.0.20348.20)/amd64", None),
        ("windows(10.0.1)/amd64", None),
    ],
)
def test_a_version_is_compared_part_by_part_where_one_is_wanted(repository, wanted, taken):
    reference = listing(repository, (OLD, windows("10.0.17763.1")), (NEW, windows("10.0.20348.2")))
    if taken is None:
        with pytest.raises(PlatformNotFoundError) as caught:
            digest_of(repository, reference, wanted)
        assert caught.value.available == ("windows(10.0.17763.1)/amd64", "windows(10.0.20348.2)/amd64")
    else:
        assert digest_of(repository, reference, wanted) == taken.digest


def test_what_is_absent_is_passed_over_and_said_to_be_missing_where_nothing_else_fits(repository):
    push(repository, GZIP)
    arm = {"platform": {"architecture": "arm64", "os": "linux"}}
    entries = [
        described(NEW.manifest, NEW.media_type, **amd64()),
        described(GZIP.manifest, GZIP.media_type, **amd64()),
        described(OLD.manifest, OLD.media_type, **arm),
    ]
    body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": entries}
    repository.put_manifest(document(body), tags=["v1"], missing="children")
    reference = Reference(repository.name, "v1")
    assert digest_of(repository, reference, "linux/amd64") == GZIP.digest
    assert digest_of(repository, reference) == GZIP.digest  # the only one that is here
    with pytest.raises(PlatformNotFoundError, match="--platform linux/amd64 would do") as caught:
        digest_of(repository, reference, "linux/arm64")
    assert caught.value.absent == {OLD.digest: "image for linux/arm64"}


def test_where_none_fits_the_platforms_are_listed(repository, monkeypatch):
    monkeypatch.setattr(machine, "machine", lambda: "riscv64")
    reference = of_platforms(repository, "linux/amd64", "linux/arm64")
    for wanted in (None, "linux/riscv64"):
        with pytest.raises(PlatformNotFoundError, match="linux/amd64, linux/arm64") as caught:
            chosen(repository, reference, wanted)
        assert caught.value.wanted == ("linux/riscv64",)
    with pytest.raises(InvalidNameError):
        chosen(repository, reference, "linux")


def test_the_only_image_is_taken_whatever_it_is_for_and_attestations_are_none(repository):
    said = {"annotations": {ATTESTED: str(Digest.of(b"any"))}}
    attested, unknown = artifact("attestation"), artifact("unknown")
    push(repository, attested)
    push(repository, unknown)
    more = [
        described(attested.manifest, attested.media_type, **said),
        described(unknown.manifest, unknown.media_type, platform={"os": "unknown", "architecture": "unknown"}),
    ]
    reference = of_platforms(repository, "linux/s390x", more=more)
    assert chosen(repository, reference) == "linux/s390x"
    with pytest.raises(PlatformNotFoundError, match="there are linux/s390x"):
        chosen(repository, reference, "linux/amd64")


def test_nested_indexes_are_gone_into_each_once(repository):
    one = image("one", architecture="amd64")
    inner = index([one])
    for number in range(40):  # a path for each of 2^40 ways, if one walked them all
        inner = index([inner, inner], annotations={"level": str(number)})
    push(repository, one)
    level, levels = inner, []
    while level.children:
        levels.append(level)
        level = level.children[0]
    for level in reversed(levels):
        repository.put_manifest(level.manifest, tags=["nested"])
    assert chosen(repository, Reference(repository.name, "nested")) == "linux/amd64"


def test_of_one_image_the_platform_is_compared_with_its_config(repository):
    push(repository, image("one"), "v1")
    push(repository, artifact("note"), "note")
    reference = Reference(repository.name, "v1")
    assert chosen(repository, reference) == chosen(repository, reference, "linux/arm64") == "linux/arm64"
    with pytest.raises(PlatformNotFoundError, match="is not for linux/amd64: there are linux/arm64"):
        chosen(repository, reference, "linux/amd64")
    with pytest.raises(PlatformNotFoundError, match="it says none"):
        choose_image(repository, Reference(repository.name, "note"), Platform("amd64", "linux"))
    with pytest.raises(ManifestInvalidError, match="an artifact, whose config is"):
        read_config(repository, repository.get_manifest("note"))


def test_an_empty_index_has_no_image(repository):
    push(repository, index(), "v1")
    with pytest.raises(PlatformNotFoundError, match="it says none"):
        chosen(repository, Reference(repository.name, "v1"))


def test_machines_are_called_as_images_call_them(monkeypatch):
    names = {"x86_64": "linux/amd64", "aarch64": "linux/arm64", "armv6l": "linux/arm/v6", "ppc64le": "linux/ppc64le"}
    for name, expected in names.items():
        monkeypatch.setattr(machine, "machine", lambda name=name: name)
        assert str(own_platform()) == expected


@pytest.mark.parametrize("said", [{}, {"architecture": "", "os": ""}, {"architecture": "", "os": "linux"}], ids=str)
def test_a_platform_that_says_nothing_or_half_is_what_the_config_says(repository, said):
    children = []
    for name in ("amd64", "s390x"):
        one = image(name, architecture=name)
        push(repository, one)
        children.append(described(one.manifest, one.media_type, platform=said))
    body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": children}
    repository.put_manifest(document(body), tags=["many"])
    assert chosen(repository, Reference(repository.name, "many"), "linux/s390x") == "linux/s390x"
