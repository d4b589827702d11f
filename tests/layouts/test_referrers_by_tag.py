"""What is about an image by a tag made of its digest, as cosign writes it, and the lists that old clients look for."""

import json

import pytest
from click.testing import CliRunner
from handmade import IMAGE_NAME, Layout, listed, names, verified
from images import artifact, image, index, push

from ocistore import ArchiveInvalidError, InvalidNameError, Store
from ocistore.cli.commands import ocistore
from ocistore.oci import mediatypes

ARM, AMD, OTHER = image("arm"), image("amd", architecture="amd64"), image("other")
BOTH = index([ARM, AMD])
SIGNED, OF_CHILD, OF_SIGNATURE, OF_OTHER = (artifact(name) for name in ("both", "arm", "of the signature", "other"))


def tag(subject, suffix=".sig"):
    return subject.digest.replace(":", "-") + suffix


SIGNATURES = {tag(BOTH): SIGNED, tag(ARM, ".att"): OF_CHILD, tag(SIGNED): OF_SIGNATURE}


@pytest.fixture
def signed(store):
    app = store.repository("app")
    push(app, BOTH, "v1")
    push(app, OTHER, "other")
    for name, signature in {**SIGNATURES, tag(OTHER): OF_OTHER}.items():
        push(app, signature, name)
    return store


@pytest.fixture
def layout(tmp_path):
    written = Layout(tmp_path / "layout").add(BOTH, "app:v1").add(OTHER, "app:other")
    for name, signature in {**SIGNATURES, tag(OTHER): OF_OTHER}.items():
        written.add(signature, f"app:{name}")
    return written


@pytest.fixture
def other(tmp_path):
    with Store.open(tmp_path / "second store") as opened:
        yield opened


def tags(store, repository="app"):
    return set(store.repository(repository).tags())


# --- out --------------------------------------------------------------------------------------------------------------


def test_signatures_by_tag_go_out_with_what_they_are_about(signed, tmp_path):
    report = signed.export(tmp_path / "out", ["app:v1"])
    assert set(names(tmp_path / "out")) == {"v1", *SIGNATURES}
    assert report.referrers_left == 0
    verified(tmp_path / "out")


def test_they_go_under_the_new_name_of_the_repository(signed, tmp_path):
    report = signed.export(tmp_path / "out.tar", ["app:v1=mirror/app:v2"])
    assert set(report.names) == {"mirror/app:v2", *(f"mirror/app:{name}" for name in SIGNATURES)}


def test_where_told_to_they_stay_behind_and_are_counted(signed, tmp_path):
    report = signed.export(tmp_path / "out", ["app:v1"], referrers=False)
    assert (report.names, report.referrers_left) == (("app:v1",), 3)


def test_a_docker_archive_cannot_hold_them_and_says_how_many_were_left(store, tmp_path):
    app = store.repository("app")
    bare = image("bare", layers=0, rootfs={"type": "layers", "diff_ids": []})
    push(app, bare, "v1")
    push(app, OF_CHILD, tag(bare))
    push(app, artifact("by subject", subject=bare))
    report = store.export(tmp_path / "out.tar", ["app"], format="docker-archive")
    assert (report.names, report.referrers_left) == (("app:v1",), 2)


def test_those_of_an_index_that_loses_platforms_stay_behind_and_are_counted(signed, tmp_path):
    report = signed.export(tmp_path / "out", ["app:v1"], platforms=["linux/arm64"])
    assert BOTH.digest in report.replaced
    assert set(names(tmp_path / "out")) == {"v1", tag(ARM, ".att")}
    assert report.referrers_left == 2  # and what is about the signature


def test_a_copy_takes_them_along(signed, other):
    report = signed.copy_to(other, ["app:v1=mirror:v1"])
    assert tags(other, "mirror") == {"v1", *SIGNATURES}
    assert report.referrers_left == 0
    assert signed.copy_to(other, ["app:other=plain:v1"], referrers=False).referrers_left == 1


def test_a_name_that_was_asked_for_is_not_taken_by_a_signature(signed, tmp_path):
    taken = tag(BOTH)
    report = signed.export(tmp_path / "out", ["app:v1", f"app:other=app:{taken}"])
    assert names(tmp_path / "out")[taken] == OTHER.digest
    assert report.referrers_left == 1


def test_in_place_everything_is_listed_referrers_too(store):
    push(store.repository("app"), ARM, "v1")
    sbom = push(store.repository("app"), artifact("sbom", subject=ARM))
    assert f"app@{sbom.digest}" in store.export_in_place().names
    assert sbom.digest in {entry["digest"] for entry in listed(store.root)}


def test_of_all_of_a_repository_only_what_has_no_tag_of_its_own_stays_behind_and_is_counted(signed, tmp_path):
    app = signed.repository("app")
    by_subject = artifact("of both, by subject", subject=BOTH)
    for referrer in (by_subject, artifact("of amd", subject=AMD)):
        push(app, referrer)
    report = signed.export(tmp_path / "out", ["app"], platforms=["linux/arm64"])
    assert tag(BOTH) in names(tmp_path / "out")
    assert report.referrers_left == 1  # what is about an image that is of another platform is about nothing here


def test_those_of_an_index_in_an_index_that_loses_platforms_are_counted(store, tmp_path):
    app = store.repository("app")
    push(app, index([BOTH]), "v1")
    push(app, SIGNED, tag(BOTH))
    push(app, OF_SIGNATURE, tag(SIGNED))
    push(app, artifact("by subject", subject=BOTH))
    report = store.export(tmp_path / "out", ["app:v1"], platforms=["linux/arm64"])
    assert (report.names, report.referrers_left) == (("app:v1",), 3)


# --- in ---------------------------------------------------------------------------------------------------------------


def test_signatures_by_tag_come_in_with_what_is_chosen(store, layout):
    report = store.import_(layout.write(), references=["app:v1"])
    assert tags(store) == {"v1", *SIGNATURES}
    assert report.referrers_left == 0


def test_they_come_into_the_repository_that_what_they_are_about_goes_to(store, layout):
    store.import_(layout.write(), references=["app:v1=mirror/app:v2"])
    assert tags(store, "mirror/app") == {"v2", *SIGNATURES}


def test_without_referrers_they_stay_out_and_are_counted(store, layout):
    report = store.import_(layout.write(), references=["app:v1"], referrers=False)
    assert tags(store) == {"v1"}
    assert report.referrers_left == 3  # the signature of the signature, too


def test_those_of_an_index_that_loses_platforms_stay_out_and_are_counted(store, layout):
    by_subject = artifact("of both, by subject", subject=BOTH)
    for referrer in (by_subject, artifact("of that", subject=by_subject)):
        layout.add(referrer)
    layout.add(artifact("the same elsewhere"), f"other:{tag(BOTH)}")
    report = store.import_(layout.write(), references=["app:v1"], platforms=["linux/arm64"])
    assert tags(store) == {"v1", tag(ARM, ".att")}
    assert report.referrers_left == 4


def test_those_of_an_index_in_an_index_that_loses_platforms_stay_out_and_are_counted(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(index([BOTH]), "app:v1").add(SIGNED, f"app:{tag(BOTH)}")
    layout.add(artifact("by subject", subject=BOTH))
    report = store.import_(layout.write(), references=["app:v1"], platforms=["linux/arm64"])
    assert (tags(store), report.referrers_left) == ({"v1"}, 2)


@pytest.mark.parametrize("choice", [{"referrers": False}, {"platforms": ["linux/arm64"]}], ids=str)
def test_what_has_no_name_and_is_about_what_stays_out_stays_out_with_it(store, tmp_path, choice):
    layout = Layout(tmp_path / "layout").add(ARM, "one:v1").add(AMD, "two:v1").add(BOTH, "three:v1")
    for subject in (ARM, AMD, BOTH):
        about = artifact(f"of {subject.digest}", subject=subject)
        layout.add(artifact(f"of what is about {subject.digest}", subject=about)).add(about)
    report = store.import_(layout.write(), **choice)
    if "referrers" in choice:
        assert (len(report.tags), report.untagged, report.referrers_left) == (3, (), 6)
    else:
        assert report.tags == ("one:v1", "three:v1")
        assert (len(report.untagged), report.referrers_left) == (4, 2)


def test_those_of_the_same_image_in_another_repository_stay_out(store, tmp_path):
    source = Layout(tmp_path / "two").add(ARM, "one:v1").add(ARM, "two:v1").add(OF_CHILD, f"two:{tag(ARM)}").write()
    store.import_(source, references=["one:v1"])
    assert tags(store, "one") == {"v1"}


def test_a_referrer_without_a_name_goes_with_its_subject(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(ARM, "one:v1").add(AMD, "two:v1")
    for referrer in (artifact("of arm", subject=ARM), artifact("of amd", subject=AMD)):
        layout.put(referrer)
        layout.entry(referrer)
    store.import_(layout.write())
    for name, subject, about in (("one", ARM, "of arm"), ("two", AMD, "of amd")):
        found = [found.digest for found in store.repository(name).referrers(subject.digest)]
        assert found == [artifact(about, subject=subject).digest]


def test_without_a_name_and_about_nothing_there_a_repository_is_asked_for(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(ARM, "one:v1").add(AMD, "two:v1").add(artifact("of none", subject=OTHER))
    with pytest.raises(InvalidNameError, match="say which one to import into"):
        store.import_(layout.write())
    assert store.import_(layout.path, references=["one:v1"]).tags == ("one:v1",)


# --- lists ------------------------------------------------------------------------------------------------------------


def test_lists_of_referrers_are_written_where_asked_for(store, tmp_path):
    app = store.repository("app")
    push(app, ARM, "v1")
    about = artifact("sbom", subject=ARM, annotations={"made": "today"})
    push(app, about)
    store.export(tmp_path / "out", ["app:v1=mirror:v1"], referrers_lists=True)
    digest = names(tmp_path / "out")[tag(ARM, "")]
    index_document = json.loads(verified(tmp_path / "out")[digest])
    (child,) = index_document["manifests"]
    assert (child["digest"], child["artifactType"]) == (about.digest, "application/vnd.example.sbom.v1+json")
    assert child["annotations"] == {"made": "today"}
    assert index_document["mediaType"] == mediatypes.OCI_INDEX
    with Store.open(tmp_path / "second") as second:
        second.import_(tmp_path / "out")
        assert [d.digest for d in second.repository("mirror").referrers(ARM.digest)] == [about.digest]
        # What comes in with a list goes out with it, and where nothing is new the list stays as it is.
        second.export(tmp_path / "again", referrers_lists=True)
        assert names(tmp_path / "again")[tag(ARM, "")] == digest
        more = artifact("more", subject=ARM)
        push(second.repository("mirror"), more)
        second.export(tmp_path / "more", ["mirror:v1"], referrers_lists=True)
    children = json.loads(verified(tmp_path / "more")[names(tmp_path / "more")[tag(ARM, "")]])["manifests"]
    assert {each["digest"] for each in children} == {about.digest, more.digest}


def test_lists_and_no_referrers_do_not_go_together(store, tmp_path):
    push(store.repository("app"), ARM, "v1")
    for options in ({"referrers": False}, {"format": "docker-archive"}):
        with pytest.raises(ValueError, match="do not go together"):
            store.export(tmp_path / "out", referrers_lists=True, **options)


# --- names ------------------------------------------------------------------------------------------------------------


def test_what_names_nothing_can_be_given_a_name(store, tmp_path):
    report = store.import_(Layout(tmp_path / "layout").add(ARM).write(), "app:v1")
    assert report.tags == ("app:v1",)


def test_one_thing_with_other_names_is_called_what_was_asked_for(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(ARM, "library/x:1").add(ARM, "library/x:2")
    layout.add(OF_CHILD, f"library/x:{tag(ARM)}")
    about = artifact("by subject", subject=ARM)
    layout.put(about)
    layout.entry(about, {IMAGE_NAME: f"library/x@{about.digest}"})
    report = store.import_(layout.write(), "host:5000/app:v1")
    assert tags(store) == {"v1", tag(ARM)}
    assert report.untagged == (f"app@{about.digest}",)


def test_several_things_cannot_be_called_the_same(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(ARM, "x:1").add(AMD, "x:2").write()
    with pytest.raises(InvalidNameError, match=r"2 things to be called that.*choose one"):
        store.import_(layout, "app:v1")
    assert store.import_(layout, "app:v1", references=["x:2"]).tags == ("app:v1",)
    with pytest.raises(InvalidNameError, match="is to be called other"):
        store.import_(layout, "app:v1", references=["x:2=app:other"])


@pytest.mark.parametrize("given", ["app@" + ARM.digest, "app:", "app:v1:v2"])
def test_a_destination_that_is_none_is_refused(store, tmp_path, given):
    with pytest.raises(InvalidNameError):
        store.import_(Layout(tmp_path / "layout").add(ARM).write(), given)


def test_a_selector_may_have_the_host_that_the_layout_names(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(ARM, "one:5000/app:v1").add(AMD, "two:5000/app:v1").write()
    assert store.import_(layout, references=["two:5000/app:v1"]).tags == ("app:v1",)
    assert store.repository("app").resolve("v1").digest == AMD.digest
    store.import_(layout, references=["one:5000/app:v1=other:5000/renamed:v1"])
    assert store.repository("renamed").resolve("v1").digest == ARM.digest


def test_a_name_alone_means_the_tag_of_what_names_no_repository(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(ARM, "n1").add(AMD, "n2").write()
    assert store.import_(layout, "app/x", references=["n1"]).tags == ("app/x:n1",)
    assert store.import_(layout, references=["n2=app/y:v1"]).tags == ("app/y:v1",)
    assert store.import_(layout, "app/z:v3", references=["n2"]).tags == ("app/z:v3",)
    with pytest.raises(InvalidNameError, match="say which one to import into") as caught:
        store.import_(layout, references=["n1"])
    assert "not a valid" not in str(caught.value)


def test_a_name_alone_is_a_repository_where_there_is_one(store, tmp_path):
    layout = Layout(tmp_path / "layout").add(ARM, "n1:v1").add(AMD, "n1").write()
    assert "n1:v1" in store.import_(layout, references=["n1"]).tags


def test_an_archive_of_no_image_says_what_it_left_or_is_an_error(store, tmp_path):
    push(store.repository("app"), OF_CHILD, tag(ARM, ".sig"))
    report = store.export(tmp_path / "all.tar", format="docker-archive")
    assert (report.names, report.referrers_left) == ((), 1)
    with pytest.raises(ArchiveInvalidError, match="is about images"):
        store.export(tmp_path / "app.tar", ["app"], format="docker-archive")
    assert not (tmp_path / "app.tar").exists()
    result = CliRunner().invoke(
        ocistore, ["--store", str(store.root), "export", "--format", "docker-archive", str(tmp_path / "again.tar")]
    )
    assert result.exit_code == 0
    assert "nothing was exported" in result.stderr
    assert "left out: 1 " in result.stderr
