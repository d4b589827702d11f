"""Names of repositories and tags, and references made of them."""

import pickle
import time
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocistore.errors import InvalidDigestError, InvalidNameError
from ocistore.oci.digest import Digest
from ocistore.oci.reference import Reference, is_digest, repository_name, tag_name

DIGEST = "sha256:" + "a" * 64

GOOD_REPOSITORIES = [
    "a",
    "0",
    "library/ubuntu",
    "a/b/c/d/e",
    "a.b",
    "a_b",
    "a__b",
    "a-b",
    "a---b",
    "a.b_c__d--e/f.g",
    "a" * 255,
    "/".join(["a"] * 128),
]
BAD_REPOSITORIES = [
    "",
    "/",
    "a/",
    "/a",
    "a//b",
    ".",
    "..",
    "../a",
    "a/..",
    "a/../b",
    "a/./b",
    "a..b",
    "a___b",
    "a._b",
    "a.-b",
    "a-",
    "-a",
    "_a",
    "a_",
    ".a",
    "a.",
    "A",
    "Library/ubuntu",
    "a/B",
    "a\n",
    "\na",
    "a\x00",
    "a b",
    " a",
    "a ",
    "a:b",
    "a@b",
    "a\\b",
    "a%2fb",
    "é",
    "a/é",
    "\uff41",
    "٣",
    "a" * 256,
    "/".join(["a"] * 129),
    "a" * 5_000,
    "index.json\n",
    "~",
    "a+b",
]
GOOD_TAGS = ["latest", "_", "0", "V1.2.3", "a-b_c.d", "a..b", "a-", "sha256-" + "a" * 64, "a" * 128]
BAD_TAGS = [
    "",
    ".",
    "..",
    ".a",
    "-a",
    "a/b",
    "a:b",
    "a@b",
    "a b",
    "a\n",
    "\na",
    "a\x00",
    "é",
    "٣",
    "a+b",
    "a" * 129,
    "../a",
    "a" * 5_000,
    DIGEST,
]


@pytest.mark.parametrize("name", GOOD_REPOSITORIES)
def test_good_repository_names_come_back_as_they_are(name):
    assert repository_name(name) == name


@pytest.mark.parametrize("name", BAD_REPOSITORIES)
def test_bad_repository_names_are_refused(name):
    with pytest.raises(InvalidNameError) as caught:
        repository_name(name)
    assert caught.value.kind == "repository"
    assert caught.value.name == name
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("name", GOOD_TAGS)
def test_good_tags_come_back_as_they_are(name):
    assert tag_name(name) == name


@pytest.mark.parametrize("name", BAD_TAGS)
def test_bad_tags_are_refused(name):
    with pytest.raises(InvalidNameError) as caught:
        tag_name(name)
    assert caught.value.kind == "tag"
    assert caught.value.name == name


@pytest.mark.parametrize("value", [None, 5, b"a", ["a"], True])
def test_what_is_no_text_is_no_name(value):
    for check, kind in ((repository_name, "repository"), (tag_name, "tag"), (Reference.parse, "reference")):
        with pytest.raises(InvalidNameError) as caught:
            check(value)
        assert caught.value.kind == kind


@pytest.mark.parametrize(
    "name", ["a" * 254 + "!", "a-" * 127 + "!", "a/" * 127, "-" * 255, "a" + "_" * 254, "a" + "-" * 254]
)
def test_no_name_takes_long_to_refuse(name):
    started = time.perf_counter()
    with pytest.raises(InvalidNameError):
        repository_name(name)
    assert time.perf_counter() - started < 0.05


def test_a_colon_tells_a_digest_from_a_tag():
    assert is_digest(DIGEST)
    assert is_digest("nonsense:")
    assert not any(is_digest(tag) for tag in GOOD_TAGS)
    assert not is_digest(None)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("app", ("app", None, None)),
        ("team/app", ("team/app", None, None)),
        ("team/app:v1", ("team/app", "v1", None)),
        (f"team/app@{DIGEST}", ("team/app", None, DIGEST)),
        (f"team/app:v1@{DIGEST}", ("team/app", "v1", DIGEST)),
    ],
)
def test_references_are_read_and_written_alike(text, parts):
    reference = Reference.parse(text)
    assert (reference.repository, reference.tag, reference.digest) == parts
    assert str(reference) == text
    assert reference.digest is None or type(reference.digest) is Digest
    assert pickle.loads(pickle.dumps(reference)) == reference
    assert len({reference, Reference.parse(text)}) == 1


@pytest.mark.parametrize(
    "text", ["", ":v1", f"@{DIGEST}", "a:", "a:/", "localhost:5000/a", "A:v1", "a:v1:v2", "a:v1\n", "../a:v1"]
)
def test_references_with_a_bad_name_are_refused(text):
    with pytest.raises(InvalidNameError):
        Reference.parse(text)


@pytest.mark.parametrize(
    "text", ["a@", "a@sha256", f"a@{DIGEST}\n", f"a@{DIGEST}@{DIGEST}", f"a@{DIGEST.upper()}", "a:v1@md5:00"]
)
def test_references_with_a_bad_digest_are_refused(text):
    with pytest.raises(InvalidDigestError):
        Reference.parse(text)


def test_a_reference_cannot_be_made_of_bad_parts_or_changed():
    with pytest.raises(InvalidNameError):
        Reference("../a")
    with pytest.raises(InvalidNameError):
        Reference("a", "b/c")
    with pytest.raises(InvalidDigestError):
        Reference("a", digest="sha256:00")
    assert type(Reference("a", digest=DIGEST).digest) is Digest
    with pytest.raises(FrozenInstanceError):
        Reference("a").tag = "b"


@given(st.text(alphabet="aA0._-/:@\n é", max_size=40))
def test_any_text_is_a_reference_or_an_invalid_one(text):
    try:
        reference = Reference.parse(text)
    except (InvalidNameError, InvalidDigestError):
        return
    assert str(reference) == text
    assert not {".", "..", ""} & set(reference.repository.split("/"))
