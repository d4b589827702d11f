"""Valid archives with something changed in them: an unchanged store and one of our errors, or a correct import."""

import io
import shutil
from datetime import timedelta

import pytest
from archived import COMPRESSIONS, docker_members, link, member, members_of, tarred
from handmade import Layout
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from images import artifact, image, index, push
from invariants import check
from state import state, strays

from ocistore import OCIStoreError, Store

BLOCK = 512
NOW = timedelta(0)
FORMS = [*COMPRESSIONS, "docker", "docker gzip", "both", "links"]


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A valid archive of each form, of several kinds of content."""
    app = image("app", layers=2)
    layout = Layout(tmp_path_factory.mktemp("good") / "layout")
    layout.add(index([app, image("second")]), "app:v1").add(artifact(subject=app), "app:note")
    members = members_of(layout.write())
    docker = docker_members({"app:d1": [b"one", b"two"], "app:d2": [b"one"]})
    first, *rest = members
    linked = [link(first[0].name, "../../elsewhere"), *rest, member("elsewhere", first[1])]
    return {
        "both": tarred([*docker, *members]),
        "links": tarred(linked).rstrip(b"\0"),
        **{name: compress(tarred(members)) for name, compress in COMPRESSIONS.items()},
        "docker": tarred(docker),
        "docker gzip": COMPRESSIONS["gzip"](tarred(docker)),
    }


@pytest.fixture(scope="module")
def stocked(tmp_path_factory, empty_store):
    """A store with something that no archive may touch."""
    root = shutil.copytree(empty_store, tmp_path_factory.mktemp("mutated") / "store")
    with Store.open(root) as store:
        push(store.repository("kept"), image("kept"), "v1")
        yield store


place = st.integers(0, 1 << 20)
changes = st.lists(
    st.one_of(
        st.tuples(st.just("byte"), place, st.integers(0, 255)),
        st.tuples(st.just("bit"), place, st.integers(0, 7)),
        st.tuples(st.just("cut"), place, st.integers(1, 4 * BLOCK)),
        st.tuples(st.just("end"), place, st.just(0)),
        st.tuples(st.just("twice"), place, st.integers(1, 8)),
        st.tuples(st.just("swap"), place, place),
        st.tuples(st.just("drop"), place, st.integers(1, 4)),
        st.tuples(st.just("insert"), place, st.binary(min_size=1, max_size=20)),
    ),
    min_size=1,
    max_size=4,
)


def changed(content, change):
    """The archive with one thing changed; blocks are those of tar, in compressed ones anything."""
    kind, where, value = change
    mutated = bytearray(content)
    at = where % max(len(mutated), 1)
    block = at - at % BLOCK
    if kind == "byte":
        mutated[at : at + 1] = bytes([value])
    elif kind == "bit":
        mutated[at : at + 1] = bytes([mutated[at] ^ 1 << value]) if mutated else b""
    elif kind == "cut":
        del mutated[at : at + value]
    elif kind == "end":
        del mutated[at:]
    elif kind == "twice":
        mutated[block:block] = mutated[block : block + value * BLOCK]
    elif kind == "swap":
        other = value % max(len(mutated), 1)
        other -= other % BLOCK
        first, second = mutated[block : block + BLOCK], mutated[other : other + BLOCK]
        if len(first) == len(second) and block != other:
            mutated[block : block + BLOCK], mutated[other : other + BLOCK] = second, first
    elif kind == "drop":
        del mutated[block : block + value * BLOCK]
    else:
        mutated[at:at] = value
    return bytes(mutated)


def with_right_checksums(content):
    """The same with the checksum of each block that may be a header made right, so that what is in it is looked at."""
    mutated = bytearray(content)
    for start in range(0, len(mutated) - BLOCK + 1, BLOCK):
        block = mutated[start : start + BLOCK]
        if block[257:262] == b"ustar":
            mutated[start + 148 : start + 156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:]))
    return bytes(mutated)


def outcome(store, content, path):
    """Import it: whether it came in. Everything is as it was, or as it should be."""
    before = state(store.root)
    source = io.BytesIO(content)
    if path is not None:
        path.write_bytes(content)
        source = path
    try:
        report = store.import_(source, "mutated")
    except OCIStoreError:
        after = state(store.root)
        assert after.rows == before.rows
        assert {name for name in after.files if name not in before.files} <= {"blobs/sha512", "blobs/blake3"}
        assert before.files.items() <= after.files.items()
        return False
    assert strays(store.root) == []
    assert check(store.root, hashes=True) == []
    if report.manifests:
        assert all(name.startswith("mutated:") for name in report.tags)
        store.delete_repository("mutated")
        store.gc(grace=NOW, keep_untagged=NOW, force=True)
    assert list(store.repositories()) == ["kept"]
    return True


def search(stocked, archives, path, examples):
    @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(st.sampled_from(FORMS), changes, st.booleans(), st.booleans())
    @example("plain", [("byte", 0, 0)], False, False)
    def mutated(form, changes, in_a_file, repaired):
        content = archives[form]
        for change in changes:
            content = changed(content, change)
        if repaired:
            content = with_right_checksums(content)
        outcome(stocked, content, path if in_a_file else None)

    mutated()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_not_changed_comes_in(stocked, archives, tmp_path, form):
    assert outcome(stocked, archives[form], None)
    assert outcome(stocked, archives[form], tmp_path / "archive")


def test_what_is_changed_is_refused_or_comes_in_correctly(stocked, archives, tmp_path):
    search(stocked, archives, tmp_path / "archive", 25)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(4))
def test_what_is_changed_in_thousands_of_ways_is_refused_or_comes_in_correctly(stocked, archives, tmp_path, part):
    search(stocked, archives, tmp_path / "archive", 1500)
