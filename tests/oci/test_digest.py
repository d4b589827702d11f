"""What is a digest, and what is not."""

import copy
import hashlib
import pickle

import pytest
from anytext import CHARACTERS, texts
from hypothesis import given
from hypothesis import strategies as st
from processes import run_python

from ocistore.errors import InvalidDigestError
from ocistore.oci.digest import ALGORITHMS, Digest, hasher

A = "a" * 64
GOOD = [f"sha256:{A}", f"sha256:{'0123456789abcdef' * 4}", f"sha512:{A}{A}", f"blake3:{A}"]
BAD = {
    "": "form",
    "sha256": "form",
    "sha256:": "form",
    f":{A}": "form",
    A: "form",
    f"sha256:{A}\n": "form",
    f"\nsha256:{A}": "form",
    f" sha256:{A}": "form",
    f"sha256:{A}\x00": "form",
    f"sha256:../{'a' * 61}": "form",
    f"../sha256:{A}": "form",
    f"SHA256:{A}": "form",
    f"sha256:{'٣' * 64}": "form",
    f"sha256:{'a' * 64}:{'a' * 64}": "form",
    f"sha256:{'A' * 64}": "lower-case",
    f"sha256:{'a' * 63}A": "lower-case",
    f"sha256:{'g' * 64}": "lower-case",
    f"sha256:{'a' * 63}": "has 63",
    f"sha256:{'a' * 65}": "has 65",
    f"sha256:{A}{A}": "has 128",
    f"sha512:{A}": "has 64",
    f"blake3:{A}a": "has 65",
    f"md5:{'a' * 32}": "unknown algorithm",
    f"sha384:{'a' * 96}": "unknown algorithm",
    f"multihash+base58:{A}": "unknown algorithm",
    f"sha256:{'a' * 5_000}": "5007 characters",
}


@pytest.mark.parametrize("text", GOOD)
def test_a_digest_is_the_text_and_its_two_parts(text):
    digest = Digest.parse(text)
    assert digest == text
    assert str(digest) == text
    assert f"{digest.algorithm}:{digest.encoded}" == text
    assert hash(digest) == hash(text)


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_digest_is_refused_with_its_reason(text):
    for make in (Digest.parse, Digest):
        with pytest.raises(InvalidDigestError) as caught:
            make(text)
        assert BAD[text] in caught.value.reason
        assert caught.value.digest == text
        assert len(str(caught.value)) < 500


@pytest.mark.parametrize("value", [None, 5, b"sha256:" + b"a" * 64, ["sha256"], object()])
def test_what_is_no_text_is_refused(value):
    with pytest.raises(InvalidDigestError) as caught:
        Digest.parse(value)
    assert caught.value.digest is value


def test_parsing_a_digest_gives_the_same_object():
    digest = Digest.parse(GOOD[0])
    assert Digest.parse(digest) is digest


def test_a_string_that_prints_as_something_else_is_taken_by_its_characters():
    class Liar(str):
        __slots__ = ()

        def __str__(self):
            return "../../etc/passwd"

    for text in GOOD:
        assert str(Digest.parse(Liar(text))) == text


@pytest.mark.parametrize("text", GOOD)
def test_digests_pickle_and_copy(text):
    digest = Digest.parse(text)
    for again in (pickle.loads(pickle.dumps(digest)), copy.deepcopy(digest)):
        assert again == digest
        assert type(again) is Digest


def test_a_pickle_cannot_smuggle_in_a_path():
    # As long as the digest, so that the pickle stays well formed.
    evil = pickle.dumps(Digest.parse(GOOD[0])).replace(GOOD[0].encode(), b"sha256:../" + b"a" * 61)
    with pytest.raises(InvalidDigestError):
        pickle.loads(evil)


@given(st.binary(max_size=2000), st.sampled_from(["sha256", "sha512"]))
def test_the_digest_of_bytes_is_their_hash(data, algorithm):
    digest = Digest.of(data, algorithm)
    assert digest == f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
    assert Digest.of(memoryview(data), algorithm) == digest


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_hasher_can_be_asked_midway_and_fed_on(algorithm):
    state = hasher(algorithm)
    state.update(b"first")
    assert Digest.of_hasher(state, algorithm) == Digest.of(b"first", algorithm)
    state.update(bytearray(b"second"))
    assert Digest.of_hasher(state, algorithm) == Digest.of(b"firstsecond", algorithm)
    assert len(Digest.of(b"", algorithm).encoded) == ALGORITHMS[algorithm]


def test_blake3_of_nothing_is_what_its_authors_say():
    assert Digest.of(b"", "blake3").encoded == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


@pytest.mark.parametrize("algorithm", ["md5", "SHA256", "", "sha256:", "../x", None])
def test_an_unknown_algorithm_is_refused(algorithm):
    with pytest.raises(InvalidDigestError, match="unknown algorithm"):
        hasher(algorithm)


def test_without_its_package_a_blake3_digest_is_refused_and_says_what_to_install():
    script = f"""
import sys
from ocistore.oci.digest import Digest
from ocistore.errors import InvalidDigestError
Digest.parse("sha256:{A}"), Digest.of(b"")
assert "blake3" not in sys.modules, "loaded without need"
sys.modules["blake3"] = None  # how Python spells: not importable
for make in (lambda: Digest.parse("blake3:{A}"), lambda: Digest.of(b"", "blake3")):
    try:
        make()
    except InvalidDigestError as error:
        print(error.reason)
"""
    assert run_python(script).count("install ocistore[blake3]") == 2


@given(texts(max_size=100) | st.from_regex(r"(sha256|sha512|blake3|md5):[0-9a-fA-F]{60,68}\n?", alphabet=CHARACTERS))
def test_any_text_is_a_digest_or_an_invalid_one(text):
    try:
        digest = Digest.parse(text)
    except InvalidDigestError:
        return
    assert digest == text
    assert set(digest.encoded) <= set("0123456789abcdef")
    assert len(digest.encoded) == ALGORITHMS[digest.algorithm]
