"""How names in a layout become repositories and tags, and how these become names in a layout."""

import itertools
import re
from pathlib import Path

import pytest
from archived import docker_members, tarred
from handmade import IMAGE_NAME, REF_NAME, Layout, listed, named, names, verified
from images import image, push
from state import unchanged

from ocistore import InvalidNameError, LayoutInvalidError, ManifestNotFoundError

ONE, TWO, THREE = image("one"), image("two"), image("three")


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "layout")


@pytest.fixture
def destination(tmp_path):
    return tmp_path / "out"


# --- reading ----------------------------------------------------------------------------------------------------------

NOTHING = object()
# ref.name, containerd's name, given repository -> REPO:TAG, REPO for an entry without a tag, or NOTHING for an error.
READ = [
    # What skopeo and umoci write.
    ("v1", None, "app", "app:v1"),
    ("v1", None, None, NOTHING),
    (None, None, "app", "app"),
    (None, None, None, NOTHING),
    # What podman and buildah write.
    ("docker.io/library/app:v1", None, None, "docker.io/library/app:v1"),
    ("docker.io/library/app:v1", None, "mine", "mine:v1"),
    ("app:v1", None, None, "app:v1"),
    ("app:v1", None, "mine", "mine:v1"),
    # What containerd and buildkit write.
    ("v1", "docker.io/library/app:v1", None, "docker.io/library/app:v1"),
    ("v1", "docker.io/library/app:v1", "mine", "mine:v1"),
    (None, "docker.io/library/app:v1", None, "docker.io/library/app:v1"),
    # What ocistore writes.
    ("v1", "app:v1", None, "app:v1"),
    ("app:v1", "app:v1", None, "app:v1"),
    (None, f"app@{ONE.digest}", None, "app"),
    (None, f"app@{ONE.digest}", "mine", "mine"),
    # A host with a port is no part of a repository's name.
    ("localhost:5000/app:v1", None, None, "app:v1"),
    ("localhost:5000/deep/app:v1", None, None, "deep/app:v1"),
    ("v1", "localhost:5000/app:v1", None, "app:v1"),
    ("localhost:5000/app", None, "mine", "mine:latest"),
    ("localhost:5000/app", None, None, "app:latest"),
    (None, "docker.io/library/app", None, "docker.io/library/app:latest"),
    (None, "app", "mine", "mine:latest"),
    ("v1", "docker.io/library/app", None, "docker.io/library/app:v1"),
    # The two names disagree: the repository is containerd's, the tag is ref.name's.
    ("v1", "app:v2", None, "app:v1"),
    ("other:v1", "app:v2", None, "app:v1"),
    (f"app:v1@{ONE.digest}", None, None, "app:v1"),
    # Names that are no tags.
    ("app/one", None, None, "app/one:latest"),
    ("..", None, "mine", "mine"),
    ("v 1", None, "mine", "mine"),
    ("app:", None, "mine", "mine"),
    (":v1", None, "mine", "mine:v1"),
    ("", None, "mine", "mine"),
    ("a" * 129, None, "mine", "mine"),
    ("../../etc/passwd:v1", None, None, NOTHING),
    ("../../etc/passwd:v1", None, "mine", "mine:v1"),
    ("App:v1", None, None, NOTHING),
    ("App:v1", None, "mine", "mine:v1"),
    ("app:v1\n", None, "mine", "mine"),
    ("v1\n", "app:v2", None, "app:v2"),
    ("a" * 256 + ":v1", None, None, NOTHING),
    ("@" + ONE.digest, None, None, NOTHING),
]


@pytest.mark.parametrize("line", READ)
def test_names_are_read_by_the_table(store, layout, line):
    ref_name, image_name, given, expected = line
    source = layout.add(ONE, ref_name, image_name).write()
    if expected is NOTHING:
        with pytest.raises(InvalidNameError) as caught, unchanged(store.root):
            store.import_(source, given)
        assert caught.value.kind == "repository"
        assert "say which one to import into" in str(caught.value)
        assert ONE.digest in str(caught.value)
        assert caught.value.name == (ref_name or image_name or ONE.digest)
        return
    report = store.import_(source, given)
    repository, _, tag = expected.partition(":")
    assert list(store.repositories()) == [repository]
    assert list(store.repository(repository).tags()) == ([tag] if tag else [])
    assert report.tags == ((expected,) if tag else ())
    assert len(report.untagged) == (0 if tag else 1)
    assert store.repository(repository).get_manifest(ONE.digest).content == ONE.manifest


DOCUMENT = Path(__file__).parents[2] / "docs" / "layouts.md"
CODE = re.compile(r"`([^`]+)`")


def documented():
    """The table of names in the document: ref.name, containerd's name, where it goes, where it goes in ``mine``."""
    lines = DOCUMENT.read_text().split("\n")
    begin = lines.index(next(line for line in lines if line.startswith("| ref.name | containerd's name |")))
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[begin + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


@pytest.mark.parametrize("row", documented(), ids=lambda row: " and ".join(row[:2]))
@pytest.mark.parametrize("given", [None, "mine"])
def test_names_are_read_as_the_document_says(store, layout, row, given):
    ref_name, image_name = (match and match[1].replace("sha256:…", ONE.digest) for match in map(CODE.match, row[:2]))
    outcome = row[2 if given is None else 3]
    layout.add(ONE, ref_name, image_name)
    if "beside" in row[0]:
        layout.add(TWO, "app:other")
    if outcome.startswith("error"):
        with pytest.raises(InvalidNameError), unchanged(store.root):
            store.import_(layout.write(), given)
        return
    report = store.import_(layout.write(), given)
    where = CODE.search(outcome)[1]
    if "without a tag" in outcome:
        assert report.tags == ()
        assert report.untagged[0].startswith(f"{where}@{ONE.digest}")
    else:
        assert where in report.tags
        repository, _, tag = where.partition(":")
        assert store.repository(repository).resolve(tag).digest == ONE.digest


def documented_of_clients():
    """The table of what clients write: the command, ref.name, containerd's name or RepoTags, and where it goes."""
    lines = DOCUMENT.read_text().split("\n")
    begin = lines.index(next(line for line in lines if line.startswith("| written by |")))
    table = itertools.takewhile(lambda line: line.startswith("|"), lines[begin + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in table]


@pytest.mark.parametrize("row", documented_of_clients(), ids=lambda row: row[0].replace("`", ""))
def test_what_clients_write_comes_in_as_the_document_says(store, layout, row, tmp_path):
    ref_names, image_names = (
        [name.replace("HOST:PORT", "localhost:5000") for name in CODE.findall(cell)] for cell in row[1:3]
    )
    if "RepoTags" in row[2]:
        source = tmp_path / "archive"
        source.write_bytes(tarred(docker_members({name: [b"a layer"] for name in image_names})))
    else:
        source = layout.add(ONE, *ref_names or [None], *image_names).write()
    for outcome, given in zip(row[3:], (None, "mine"), strict=True):
        if outcome.startswith("error"):
            with pytest.raises(InvalidNameError), unchanged(store.root):
                store.import_(source, given)
            continue
        report = store.import_(source, given)
        where = image_names if outcome == "both" else CODE.findall(outcome)
        assert list(report.tags) == ([] if "without a tag" in outcome else where)
        assert len(report.untagged) == ("without a tag" in outcome)


def test_an_entry_that_gets_no_tag_is_reported_with_the_name_that_is_none(store, layout):
    layout.add(ONE, "not a tag").add(TWO)
    report = store.import_(layout.write(), "app")
    assert report.untagged == (f"app@{ONE.digest} ('not a tag' is not a tag)", f"app@{TWO.digest}")


def test_an_entry_without_a_repository_goes_where_all_others_go(store, layout):
    layout.add(ONE, "app:v1").add(TWO, "v2").add(THREE)
    report = store.import_(layout.write())
    assert report.tags == ("app:v1", "app:v2")
    assert report.untagged == (f"app@{THREE.digest}",)


def test_an_entry_without_a_repository_beside_two_is_refused(store, layout):
    layout.add(ONE, "app:v1").add(TWO, "tools:v1").add(THREE, "v3")
    with pytest.raises(InvalidNameError, match="say which one to import into"), unchanged(store.root):
        store.import_(layout.write())


@pytest.mark.parametrize("repository", ["App", "..", "app/", "", "App:v1", "a" * 256, "app\n"])
def test_a_given_repository_must_be_the_name_of_one(store, layout, repository):
    with pytest.raises(InvalidNameError) as caught, unchanged(store.root):
        store.import_(layout.add(ONE, "v1").write(), repository)
    assert (caught.value.kind, caught.value.name) == ("repository", repository.partition(":")[0])


@pytest.mark.parametrize(
    ("first", "second", "given"),
    [("v1", "v1", "app"), ("one:v1", "two:v1", "app"), ("app:v1", "localhost:5000/app:v1", None)],
)
def test_two_manifests_under_one_name_are_refused(store, layout, first, second, given):
    source = layout.add(ONE, first).add(TWO, second).write()
    with pytest.raises(LayoutInvalidError) as caught, unchanged(store.root):
        store.import_(source, given)
    (problem,) = caught.value.problems
    assert problem.startswith(f"app:v1 is the name of two entries: {ONE.digest} and {TWO.digest}")
    assert ("by two hosts" in problem) is ("localhost:5000" in second)


def test_one_manifest_twice_under_one_name_is_one_tag(store, layout):
    layout.add(ONE, "v1").add(ONE, "v1")
    assert store.import_(layout.write(), "app").tags == ("app:v1",)
    assert len(list(store.repository("app").history())) == 1


# --- writing ----------------------------------------------------------------------------------------------------------


def full_names(path):
    return sorted(entry["annotations"][IMAGE_NAME] for entry in listed(path))


def test_names_are_short_where_all_is_one_repositorys(store, repository, destination):
    push(repository, ONE, "v1", "v2")
    store.export(destination)
    assert names(destination) == {"v1": ONE.digest, "v2": ONE.digest}
    assert full_names(destination) == ["library/app:v1", "library/app:v2"]


def test_names_are_whole_where_there_are_several_repositories(store, destination):
    push(store.repository("one"), ONE, "v1")
    push(store.repository("two"), TWO, "v1")
    store.export(destination)
    assert names(destination) == {"one:v1": ONE.digest, "two:v1": TWO.digest}
    assert full_names(destination) == ["one:v1", "two:v1"]


def test_a_name_stays_valid_when_another_repository_comes_into_the_layout(store, destination):
    push(store.repository("one"), ONE, "v1")
    push(store.repository("two"), TWO, "v1")
    store.export(destination, ["one"])
    assert names(destination) == {"v1": ONE.digest}
    store.export(destination, ["two"])
    assert names(destination) == {"v1": ONE.digest, "two:v1": TWO.digest}
    assert full_names(destination) == ["one:v1", "two:v1"]
    push(store.repository("one"), THREE, "v1", "v2")
    store.export(destination)
    assert names(destination) == {"v1": THREE.digest, "v2": THREE.digest, "two:v1": TWO.digest}
    verified(destination)


def test_whole_names_stay_whole_when_only_one_repository_is_exported_again(store, destination):
    push(store.repository("one"), ONE, "v1")
    push(store.repository("two"), TWO, "v1")
    store.export(destination)
    push(store.repository("one"), ONE, "v2")
    store.export(destination, ["one"])
    assert names(destination) == {"one:v1": ONE.digest, "one:v2": ONE.digest, "two:v1": TWO.digest}


def test_a_name_in_place_stays_valid_when_the_store_gets_another_repository(store):
    push(store.repository("one"), ONE, "v1")
    store.export_in_place()
    assert names(store.root) == {"v1": ONE.digest}
    push(store.repository("two"), TWO, "v1")
    store.export_in_place()
    assert names(store.root) == {"v1": ONE.digest, "two:v1": TWO.digest}
    store.delete_repository("one")
    store.export_in_place()
    assert names(store.root) == {"two:v1": TWO.digest}


def test_exporting_again_adds_names_and_replaces_those_that_moved(store, repository, destination):
    push(repository, ONE, "v1", "latest")
    store.export(destination)
    push(repository, TWO, "v2", "latest")
    store.export(destination, ["library/app:v2", "library/app:latest"])
    assert names(destination) == {"v1": ONE.digest, "v2": TWO.digest, "latest": TWO.digest}
    verified(destination)


def test_a_tag_removed_from_the_store_stays_in_a_layout_that_has_it(store, repository, destination):
    push(repository, ONE, "v1", "v2")
    store.export(destination)
    repository.untag("v2")
    store.export(destination)
    assert names(destination) == {"v1": ONE.digest, "v2": ONE.digest}


def test_entries_of_other_tools_stay_as_they_are(store, repository, layout):
    push(repository, ONE, "v1")
    platform = {"architecture": "arm64", "os": "linux", "variant": "v8"}
    layout.add(TWO, "other", platform=platform, artifactType="application/vnd.example").add(THREE)
    layout.entry(TWO, {**named("theirs", "localhost:5000/app:v1"), "org.example.note": "kept"})
    before = layout.entries
    store.export(layout.write())
    after = listed(layout.path)
    assert [entry for entry in after if entry["digest"] != ONE.digest] == sorted(
        before, key=lambda entry: entry.get("annotations", {}).get(REF_NAME, "")
    )
    assert len(after) == 4
    verified(layout.path)


def test_an_entry_of_another_tool_under_a_name_we_write_is_replaced(store, repository, layout):
    push(repository, ONE, "v1")
    layout.add(TWO, "v1").add(TWO, "v2")
    store.export(layout.write())
    assert names(layout.path) == {"v1": ONE.digest, "v2": TWO.digest}


def test_an_entry_of_another_tool_whose_short_name_means_something_else_stays(store, layout):
    push(store.repository("one"), ONE, "v1")
    push(store.repository("two"), ONE, "v1")
    layout.add(TWO, "v1")
    store.export(layout.write())
    assert names(layout.path) == {"v1": TWO.digest, "one:v1": ONE.digest, "two:v1": ONE.digest}


def test_an_annotated_entry_of_ours_keeps_its_annotations_and_its_name(store, layout):
    push(store.repository("two"), TWO, "v1")
    layout.put(ONE)
    layout.entry(ONE, {**named("v1", "one:v1"), "org.example.note": "kept"})
    store.export(layout.write())
    (entry,) = [entry for entry in listed(layout.path) if entry["digest"] == ONE.digest]
    assert entry["annotations"] == {IMAGE_NAME: "one:v1", REF_NAME: "v1", "org.example.note": "kept"}


def test_a_second_name_that_somebody_gave_an_entry_of_ours_stays(store, layout):
    push(store.repository("app"), ONE, "v1")
    layout.add(ONE, "v1", "app:v1").add(ONE, "renamed", "app:v1").add(TWO, "named", f"app@{TWO.digest}")
    store.export(layout.write())
    assert names(layout.path) == {"v1": ONE.digest, "renamed": ONE.digest, "named": TWO.digest}
    assert store.import_(layout.path).tags == ("app:named", "app:renamed", "app:v1")


# --- what is said of names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["app:v1@sha256:abc", "app@sha256:abc", f"app@sha256:{'AB' * 32}", "app:v1@foo"])
@pytest.mark.parametrize("as_what", ["name", "image_name"])
def test_what_has_no_digest_after_its_at_sign_is_no_name_and_is_said_to_be_none(store, layout, name, as_what):
    report = store.import_(layout.add(ONE, **{as_what: name}).write(), "mine")
    [said] = report.untagged
    assert said == f"mine@{ONE.digest} ({name!r} is no name: {name.partition('@')[2]!r} is no digest)"


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("three:5000/app:v1", "nothing in it is called 'three:5000/app:v1'; there is 'one:5000/app:v1', 'two:v2'"),
        (f"{ONE.digest}=mine", f"nothing in it is called '{ONE.digest}'"),
        ("two:v1", "repository 'two' has no manifest 'v1'; there is 'one:5000/app:v1', 'two:v2'"),
    ],
)
def test_what_is_not_there_is_called_what_it_was_and_what_is_there_is_told(store, layout, reference, said):
    source = layout.add(ONE, "one:5000/app:v1").add(TWO, "two:v2").write()
    with pytest.raises(ManifestNotFoundError) as caught, unchanged(store.root):
        store.import_(source, references=[reference])
    assert said in str(caught.value)


def test_a_few_of_many_names_are_told(store, layout):
    for number in range(7):
        layout.add(ONE, f"app:v{number}")
    with pytest.raises(ManifestNotFoundError, match=r"'app:v0', .*'app:v4', \.\.\.$"):
        store.import_(layout.write(), references=["app:v9"])


def test_a_name_alone_may_have_a_digest(store, layout):
    source = layout.add(ONE, "n1").add(TWO, "n2").write()
    report = store.import_(source, "app/x", references=[f"n1@{ONE.digest}"])
    assert report.tags == ("app/x:n1",)
    assert store.import_(source, references=[f"n2@{TWO.digest}=app/y:v1"]).tags == ("app/y:v1",)
    with pytest.raises(ManifestNotFoundError, match="there is 'n1', 'n2'"):
        store.import_(source, "app/x", references=[f"n1@{TWO.digest}"])


def test_of_two_things_of_one_name_it_is_said_how_to_choose_one(store, layout):
    source = layout.add(ONE, "one:5000/app:v1").add(TWO, "app:v1").write()
    for repository in (None, "mine"):
        with pytest.raises(LayoutInvalidError, match=r"by two hosts: choose one of them \(--ref NAME\[@DIGEST\]\)"):
            store.import_(source, repository)
    with pytest.raises(InvalidNameError, match=r"choose one of them \(--ref NAME\[@DIGEST\]\)"):
        store.import_(source, "mine:v1")
    assert store.import_(source, references=["one:5000/app:v1"]).tags == ("app:v1",)
    for chosen in (ONE, TWO):
        store.import_(source, references=[f"app:v1@{chosen.digest}"])
        assert store.repository("app").resolve("v1").digest == chosen.digest
