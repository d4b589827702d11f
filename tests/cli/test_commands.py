"""What each command does, and prints."""

import json
import re

import pytest
from images import artifact, image, index, note, push

from ocistore import Digest, Store
from ocistore.catalog.schema import SCHEMA_REVISION


@pytest.fixture
def pushed(repository):
    """An image with the tags v1 and latest, an index of it, and an artifact about it."""
    one = image("one", layers=2, annotations={"org.example.note": "hello"})
    push(repository, one, "v1", "latest")
    push(repository, index([one]), "many")
    push(repository, artifact("sbom", subject=one))
    return one


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "note.txt"
    path.write_bytes(b"a note")
    return path


# --- init -------------------------------------------------------------------------------------------------------------


def test_init_makes_a_store_and_leaves_an_existing_one_alone(run, tmp_path, repository):
    push(repository, note(1), "v1")
    assert run("init") == f"{run.root}\n"
    assert run("repos") == "library/app\n"

    assert run("--store", tmp_path / "new", "init") == f"{tmp_path}/new\n"
    with Store.open(tmp_path / "new", create=False) as made:
        assert list(made.repositories()) == []


@pytest.mark.parametrize("arguments", [["repos"], ["tag", "a:b", "c"], ["rm", "a:b"], ["export", "--in-place"]])
def test_only_init_push_and_import_make_a_store(run, tmp_path, arguments):
    result = run.try_("--store", tmp_path / "new", *arguments)
    assert result.exit_code == 32
    assert not (tmp_path / "new").exists()


def test_push_and_import_make_a_store(run, repository, pushed, file, tmp_path):
    run("--store", tmp_path / "first", "push", "notes:v1", file)
    run("export", tmp_path / "layout")
    run("--store", tmp_path / "second", "import", tmp_path / "layout")

    assert run("--store", tmp_path / "first", "repos") == "notes\n"
    assert run("--store", tmp_path / "second", "repos") == "library/app\n"


@pytest.mark.parametrize(
    "line",
    [
        (["push", "notes:v1", "nowhere"], 1),
        (["push", "notes:v1", "note.txt", "nowhere"], 1),
        (["push", "notes:v1", "/dev/null"], 24),
        (["push", "NOTES:v1", "note.txt"], 10),
        (["push", "notes:v1", "note.txt", "--subject", "notes:v0"], 32),
        (["import", "nowhere"], 23),
        (["import", "."], 23),
        (["import", "note.txt"], 44),
        (["import", "layout", "NOTES"], 10),
    ],
)
def test_push_and_import_make_no_store_where_they_have_nothing_to_put_in(run, file, tmp_path, monkeypatch, line):
    arguments, code = line
    run("export", tmp_path / "layout")
    monkeypatch.chdir(tmp_path)
    assert run.try_("--store", "new", *arguments).exit_code == code
    assert not (tmp_path / "new").exists()


def test_import_says_no_more_than_that_there_is_no_directory(run, tmp_path):
    shown = run.try_("import", tmp_path / "nope").stderr
    said = "is not an OCI layout that can be used: there is no such file or directory"
    assert shown == f"Error: {tmp_path}/nope {said}\n"


# --- push and pull ----------------------------------------------------------------------------------------------------


def test_push_prints_the_digest_and_pull_the_paths(run, store, file, tmp_path):
    digest = run("push", "notes:v1", file).strip()
    assert store.repository("notes").resolve("v1").digest == digest

    assert run("pull", "notes:v1", "-o", tmp_path / "out") == f"{tmp_path}/out/note.txt\n"
    assert (tmp_path / "out" / "note.txt").read_bytes() == b"a note"


def test_push_takes_everything_an_artifact_can_have(run, store, file):
    about = run("push", "notes:v1", file).strip()
    printed = json.loads(
        run(
            *("push", "notes", file, "--artifact-type", "application/spdx+json", "--subject", "notes:v1"),
            *("--annotation", "a=b=c", "--annotation", "d=", "--media-type", "note.txt=text/plain", "--json"),
        )
    )

    manifest = store.repository("notes").get_manifest(printed["digest"])
    assert printed == {
        "repository": "notes",
        "tag": None,
        "mediaType": manifest.media_type,
        "digest": manifest.descriptor.digest,
        "size": len(manifest.content),
        "artifactType": "application/spdx+json",
    }
    assert manifest.annotations == {"a": "b=c", "d": ""}
    assert manifest.layers[0].media_type == "text/plain"
    assert manifest.subject.digest == about


@pytest.mark.parametrize("annotations", [["novalue"], ["=x"], ["a=1", "a=2"]])
def test_push_refuses_annotations_that_are_not_clear(run, file, annotations):
    options = [word for annotation in annotations for word in ("--annotation", annotation)]
    assert run.try_("push", "notes:v1", file, *options).exit_code == 2


def test_pull_says_what_it_skipped(run, repository, store, file, tmp_path):
    run("push", "notes:v1", file)
    document = json.loads(run("cat", "notes:v1"))
    document["layers"].append({**document["layers"][0], "annotations": {}})
    store.repository("notes").put_manifest(json.dumps(document).encode(), tags=["v2"])

    result = run.try_("pull", "notes:v2", "-o", tmp_path / "out")
    assert result.stdout == f"{tmp_path}/out/note.txt\n"
    assert "skipped a layer without a title" in result.stderr

    printed = json.loads(run("pull", "notes:v2", "-o", tmp_path / "out", "--json"))
    assert printed["files"] == [f"{tmp_path}/out/note.txt"]
    assert [layer["digest"] for layer in printed["skipped"]] == [Digest.of(b"a note")]


# --- import and export ------------------------------------------------------------------------------------------------


def about(pushed):
    return artifact("sbom", subject=pushed).digest


def test_what_is_exported_can_be_imported(run, repository, pushed, tmp_path):
    assert run("export", "library/app:v1", "library/app:many", tmp_path / "layout") == (
        f"library/app:many\nlibrary/app:v1\nlibrary/app@{about(pushed)}\n"
    )
    assert run("import", tmp_path / "layout", "copy") == f"copy:many\ncopy:v1\ncopy@{about(pushed)} (no tag)\n"
    assert run("cat", "copy:v1").encode() == pushed.manifest


def test_export_of_a_repository_takes_all_its_tags_and_of_nothing_everything(run, repository, pushed, store, tmp_path):
    push(store.repository("other"), note(1), "v1")

    names = ["library/app:latest", "library/app:many", "library/app:v1"]
    assert json.loads(run("export", "library/app", tmp_path / "one", "--no-referrers", "--json"))["names"] == names
    everything = [*names, f"library/app@{about(pushed)}", "other:v1"]
    assert json.loads(run("export", tmp_path / "all", "--json"))["names"] == everything


def test_export_with_referrers_takes_what_is_about_it(run, repository, pushed, tmp_path):
    without = json.loads(run("export", "library/app:v1", tmp_path / "without", "--json", "--no-referrers"))
    with_them = json.loads(run("export", "library/app:v1", tmp_path / "with", "--json"))
    assert (without["manifests"], with_them["manifests"]) == (1, 2)
    assert (without["referrersLeft"], with_them["referrersLeft"]) == (1, 0)


def test_export_by_links_shares_the_files(run, repository, pushed, store, tmp_path):
    run("export", "library/app:v1", tmp_path / "layout", "--mode", "link")
    path = f"blobs/sha256/{pushed.digest.encoded}"
    assert (tmp_path / "layout" / path).samefile(store.root / path)


def test_export_in_place_makes_the_store_a_layout(run, repository, pushed, store):
    printed = json.loads(run("export", "--in-place", "--json"))
    assert printed["destination"] == str(store.root)
    assert (store.root / "index.json").exists()


@pytest.mark.parametrize(
    "arguments", [["--in-place", "x"], ["--in-place", "--referrers"], ["--in-place", "--mode", "copy"], []]
)
def test_export_refuses_what_makes_no_sense(run, arguments):
    assert run.try_("export", *arguments).exit_code == 2


def test_export_takes_a_lonely_reference_for_a_forgotten_destination(run, repository, pushed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    result = run.try_("export", "library/app:v1")
    assert result.exit_code == 2
    assert "is a reference" in result.stderr
    assert sorted(tmp_path.iterdir()) == before

    run("export", "./app:v1")
    assert (tmp_path / "app:v1" / "index.json").exists()


def test_import_prints_its_report(run, repository, pushed, tmp_path):
    run("export", "library/app:v1", tmp_path / "layout", "--no-referrers")
    printed = json.loads(run("import", tmp_path / "layout", "copy", "--json"))
    assert printed["source"] == str(tmp_path / "layout")
    assert printed["tags"] == ["copy:v1"]
    assert (printed["manifests"], printed["blobs"]) == (1, 3)


def test_import_says_what_it_skipped(run, repository, pushed, tmp_path):
    run("export", "library/app:v1", tmp_path / "layout", "--no-referrers")
    index_json = tmp_path / "layout" / "index.json"
    document = json.loads(index_json.read_bytes())
    document["manifests"].append({**document["manifests"][0], "mediaType": "application/vnd.example"})
    index_json.write_text(json.dumps(document))

    result = run.try_("import", tmp_path / "layout", "copy")
    assert result.stdout == "copy:v1\n"
    skipped = f"{pushed.digest} (application/vnd.example)"
    assert f"left out: {skipped}\n" in result.stderr
    assert json.loads(run("import", tmp_path / "layout", "copy", "--json"))["skipped"] == [skipped]


# --- repos and tags ---------------------------------------------------------------------------------------------------


def test_listings_are_in_byte_order_and_can_be_narrowed(run, store):
    for name in ("b/two", "a", "b/one"):
        push(store.repository(name), note(name), "v2", "v10", "V1")

    assert run("repos") == "a\nb/one\nb/two\n"
    assert run("repos", "--prefix", "b/", "--limit", "1") == "b/one\n"
    assert run("repos", "--after", "b/one") == "b/two\n"
    assert run("tags", "a") == "V1\nv10\nv2\n"
    assert run("tags", "a", "--prefix", "v", "--after", "v10") == "v2\n"
    assert run("tags", "a", "--limit", "0") == ""


def test_listings_as_json_are_arrays(run, store):
    assert json.loads(run("repos", "--json")) == []
    push(store.repository("a"), note(1), "v1", "v2")
    assert json.loads(run("repos", "--json")) == [{"name": "a"}]
    assert [tag["name"] for tag in json.loads(run("tags", "a", "--json"))] == ["v1", "v2"]


def test_a_negative_limit_is_refused(run):
    assert run.try_("repos", "--limit", "-1").exit_code == 2


# --- show and cat -----------------------------------------------------------------------------------------------------


def test_show_prints_what_a_manifest_is_and_what_surrounds_it(run, repository, pushed):
    printed = json.loads(run("show", "library/app:latest", "--json"))
    manifest = json.loads(pushed.manifest)

    assert list(printed) == [
        *("repository", "digest", "mediaType", "size", "artifactType", "annotations", "config", "layers", "manifests"),
        *("subject", "absent", "tags", "referrers"),
    ]
    assert printed["repository"] == "library/app"
    assert printed["digest"] == pushed.digest
    assert printed["size"] == len(pushed.manifest)
    assert printed["annotations"] == {"org.example.note": "hello"}
    assert printed["config"] == manifest["config"]
    assert printed["layers"] == manifest["layers"]
    assert printed["subject"] is None
    assert printed["absent"] == []
    assert printed["tags"] == ["latest", "v1"]
    (referrer,) = printed["referrers"]
    assert printed == printed | json.loads(run("show", f"library/app@{pushed.digest}", "--json"))

    about = json.loads(run("show", f"library/app@{referrer['digest']}", "--json"))
    assert about["subject"]["digest"] == pushed.digest
    assert about["tags"] == []


def test_show_prints_the_same_for_people(run, repository, pushed):
    text = run("show", "library/app:v1")
    assert re.search(r"^tags +latest, v1$", text, re.MULTILINE)
    assert re.search(r"^size +\d+ B$", text, re.MULTILINE)
    assert "org.example.note  hello" in text
    for blob in pushed.blobs:
        assert Digest.of(blob) in text
    assert "referrers:" in text


def test_show_of_an_index_prints_platforms(run, repository):
    one = image("one")
    body = json.loads(index([one]).manifest)
    body["manifests"][0]["platform"] = {"os": "linux", "architecture": "arm64", "variant": "v8"}
    push(repository, one)
    repository.put_manifest(json.dumps(body).encode(), tags=["many"])

    assert "linux/arm64/v8" in run("show", "library/app:many")


def test_what_strangers_wrote_cannot_drive_the_terminal(run, repository):
    push(repository, index(annotations={"k\x1b[2J": "a\rb\nc\u202e\x9b\N{SNOWMAN}"}), "v1")
    text = run("show", "library/app:v1")
    assert "k\\x1b[2J  a\\rb\\nc\\u202e\\x9b\N{SNOWMAN}\n" in text


def test_cat_prints_the_exact_bytes_of_manifests_and_blobs(run, repository, pushed):
    assert run.try_("cat", "library/app:v1").stdout_bytes == pushed.manifest
    assert run.try_("cat", f"library/app@{pushed.digest}").stdout_bytes == pushed.manifest
    large = bytes(range(256)) * 10_000
    repository.put_blob(large)
    assert run.try_("cat", f"library/app@{Digest.of(large)}").stdout_bytes == large


def test_cat_of_a_damaged_blob_fails_at_the_end(run, repository, store):
    repository.put_blob(b"good bytes")
    path = store.root / "blobs" / "sha256" / Digest.of(b"good bytes").encoded
    path.chmod(0o600)
    path.write_bytes(b"evil bytes")

    assert run.try_("cat", f"library/app@{Digest.of(b'good bytes')}").exit_code == 35


@pytest.mark.parametrize("command", ["show", "cat", "pull"])
def test_a_repository_alone_is_answered_with_what_to_give(run, repository, pushed, command):
    assert "give REPO:TAG or REPO@DIGEST" in run.try_(command, "library/app").stderr


def test_with_tag_and_digest_the_digest_decides(run, repository, pushed):
    assert run("cat", f"library/app:many@{pushed.digest}").encode() == pushed.manifest


# --- tag, untag, rm ---------------------------------------------------------------------------------------------------


def test_tag_points_a_tag_at_the_same_manifest(run, repository, pushed):
    run("tag", "library/app:v1", "stable")
    run("tag", f"library/app@{pushed.digest}", "many")
    assert repository.resolve("stable").digest == repository.resolve("many").digest == pushed.digest


def test_tag_can_expect_what_is_there(run, repository, pushed):
    moved = repository.resolve("many").digest
    assert run.try_("tag", "library/app:v1", "many", "--expected", "none").exit_code == 22
    assert run.try_("tag", "library/app:v1", "many", "--expected", pushed.digest).exit_code == 22
    assert repository.resolve("many").digest == moved

    run("tag", "library/app:v1", "many", "--expected", moved)
    run("tag", "library/app:v1", "new", "--expected", "none")
    assert repository.resolve("many").digest == repository.resolve("new").digest == pushed.digest


def test_untag_keeps_the_manifest_and_its_other_tags(run, repository, pushed):
    assert run("untag", "library/app:latest") == ""
    assert list(repository.tags()) == ["many", "v1"]
    assert repository.resolve(pushed.digest).digest == pushed.digest


@pytest.mark.parametrize("reference", ["library/app", f"library/app@{Digest.of(b'')}", f"a:b@{Digest.of(b'')}"])
def test_untag_wants_a_tag(run, reference):
    assert run.try_("untag", reference).exit_code == 10


def test_rm_of_a_tag_deletes_the_manifest_and_says_so(run, repository):
    pushed = note(1)
    push(repository, pushed, "v1")
    push(repository, note(2), "other")

    assert run("rm", "library/app:v1") == (
        f"deleted manifest library/app@{pushed.digest}\nremoved tag library/app:v1\n"
    )
    assert list(repository.tags()) == ["other"]
    assert run.try_("show", f"library/app@{pushed.digest}").exit_code == 16


def test_rm_of_one_of_several_tags_wants_to_be_sure(run, repository):
    push(repository, note(1), "v1", "latest", "stable")
    result = run.try_("rm", "library/app:v1")
    assert result.exit_code == 2
    assert "has other tags, which would be removed too: latest, stable; pass --yes" in result.stderr
    assert list(repository.tags()) == ["latest", "stable", "v1"]

    assert run("rm", "library/app:v1", "--yes").splitlines()[1:] == [
        f"removed tag library/app:{name}" for name in ("latest", "stable", "v1")
    ]
    assert list(repository.tags()) == []


def test_rm_names_no_more_tags_than_one_can_read(run, repository):
    push(repository, note(1), *(f"v{number:03}" for number in range(200)))
    assert "v001, v002" in (shown := run.try_("rm", "library/app:v000").stderr)
    assert "v020 ...;" in shown
    assert "v021" not in shown


def test_rm_of_a_digest_deletes_a_manifest_or_a_blob(run, repository):
    push(repository, note(1), "v1")
    repository.put_blob(b"loose")

    assert json.loads(run("rm", f"library/app@{note(1).digest}", "--json")) == {
        "kind": "manifest",
        "repository": "library/app",
        "digest": note(1).digest,
        "tags": ["v1"],
    }
    assert run("rm", f"library/app@{Digest.of(b'loose')}") == f"deleted blob library/app@{Digest.of(b'loose')}\n"
    assert run.try_("rm", f"library/app@{Digest.of(b'loose')}").exit_code == 15


def test_rm_deletes_nothing_that_is_referred_to(run, repository, pushed):
    for reference in ("library/app:v1", f"library/app@{Digest.of(pushed.config)}"):
        assert run.try_("rm", "--yes", reference).exit_code == 21
    assert list(repository.tags()) == ["latest", "many", "v1"]


def test_rm_of_a_repository_wants_to_be_sure(run, store, repository, pushed):
    result = run.try_("rm", "library/app")
    assert result.exit_code == 2
    assert "3 tags: pass --yes" in result.stderr
    assert list(store.repositories()) == ["library/app"]

    push(store.repository("small"), note(1), "v1")
    assert "with 1 tag: pass --yes" in run.try_("rm", "small").stderr
    run("rm", "small", "--yes")

    assert run("rm", "library/app", "--yes") == "deleted repository library/app\n"
    assert list(store.repositories()) == []


def test_rm_refuses_a_tag_together_with_a_digest(run, repository, pushed):
    assert run.try_("rm", f"library/app:v1@{pushed.digest}").exit_code == 10


# --- usage, uploads, db -----------------------------------------------------------------------------------------------


def test_usage_counts(run, repository, pushed):
    printed = json.loads(run("usage", "--json"))
    assert printed["tags"] == 3
    assert printed["manifests"] == 3
    assert re.search(r"^blobs +8, \d", run("usage"), re.MULTILINE)


def test_uploads_lists_sessions_of_one_repository_or_all(run, store):
    ids = {}
    for name in ("a", "list"):
        with store.repository(name).start_upload() as upload:
            upload.write(b"four")
        ids[name] = upload.id

    printed = json.loads(run("uploads", "--json"))
    assert [(entry["repository"], entry["id"], entry["offset"]) for entry in printed] == [
        ("a", ids["a"], 4),
        ("list", ids["list"], 4),
    ]
    assert run("uploads", "a").split()[:4] == ["a", ids["a"], "4", "B"]
    assert run("uploads", "list", "list").split()[1] == ids["list"]
    assert len(run("uploads").splitlines()) == 2
    assert run.try_("uploads", "none").exit_code == 11


def test_db_says_which_revision_there_is_and_upgrades(run):
    assert json.loads(run("db", "current", "--json")) == {"current": SCHEMA_REVISION, "known": SCHEMA_REVISION}
    assert run("db", "current").split() == ["current", SCHEMA_REVISION, "known", SCHEMA_REVISION]
    assert run("db", "upgrade") == f"{SCHEMA_REVISION}, nothing to do\n"
    assert json.loads(run("db", "upgrade", "--json")) == {"from": SCHEMA_REVISION, "to": SCHEMA_REVISION}
    assert run("db", "check") == "ok\n"
    assert json.loads(run("db", "check", "--json")) == {"differences": [], "problems": [], "missing": []}
