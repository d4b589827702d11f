"""show, ls-files and cat: what is inside of images, printed."""

import json
import stat

import pytest
from images import artifact, described, document, image, index, note, push
from layered import archive, directory, layered, member, put, symlink

from ocistore import Digest
from ocistore.artifacts import push_files
from ocistore.oci import mediatypes
from ocistore.oci.reference import split_path

LAYERS = (
    archive(directory("etc"), member("etc/os-release", b"NAME=one\n", mtime=1_700_000_000), member("etc/gone", b"x")),
    archive(directory("etc"), member("etc/.wh.gone"), symlink("etc/link", "os-release"), member("esc\x1b[2J\n", b"e")),
)
CONFIG = {
    "architecture": "amd64",
    "created": "2024-01-02T03:04:05Z",
    "config": {
        "Entrypoint": ["/bin/sh", "-c"],
        "Cmd": ["run\x1b[2J"],
        "Env": ["A=1", "B=2"],
        "WorkingDir": "/work",
        "User": "nobody",
        "Labels": {"org.example": "label"},
    },
}


@pytest.fixture
def one(repository):
    """An image with two layers, tagged v1."""
    pushed = layered(*LAYERS, config=CONFIG)
    put(repository, pushed, "v1")
    return pushed


def many(repository, *images, more=()):
    """An index of images with their platforms, tagged many."""
    children = []
    for pushed in images:
        platform = {key: json.loads(pushed.config)[key] for key in ("architecture", "os")}
        children.append(described(pushed.manifest, pushed.media_type, platform=platform))
    body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": [*children, *more]}
    repository.put_manifest(document(body), tags=["many"])


# --- show -------------------------------------------------------------------------------------------------------------


def test_show_prints_an_image_as_a_tree(run, repository, one):
    push(repository, artifact("sbom", subject=one))
    manifest = json.loads(one.manifest)
    text = run("show", "library/app:v1")
    lines = text.splitlines()
    config = lines.index(next(line for line in lines if line.startswith("config  ")))
    assert [line.split(None, 1) for line in lines[config + 1 : config + 8]] == [
        ["platform", "linux/amd64"],
        ["created", "2024-01-02T03:04:05Z"],
        ["entrypoint", '["/bin/sh", "-c"]'],
        ["command", '["run\\u001b[2J"]'],
        ["environment", "2 variables"],
        ["directory", "/work"],
        ["user", "nobody"],
    ]
    assert "    org.example  label" in lines
    layers = lines[lines.index("layers:") + 1 :][:2]
    for number, (line, layer) in enumerate(zip(layers, manifest["layers"], strict=True), start=1):
        assert line.split()[:2] == [str(number), layer["digest"]]
        assert line.endswith(layer["mediaType"])
    assert lines[lines.index("referrers:") + 1].startswith("  application/vnd.example.sbom")


def test_show_prints_an_index_with_what_is_in_it(run, repository, one):
    other = image("other")
    push(repository, other)
    push(repository, artifact("sbom", subject=other))
    many(repository, one, other)
    inner = repository.resolve("many")
    again = described(one.manifest, one.media_type)
    nested = {"mediaType": inner.media_type, "digest": inner.digest, "size": inner.size}
    body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_INDEX, "manifests": [nested, again]}
    repository.put_manifest(document(body), tags=["nested"])

    lines = run("show", "library/app:nested").splitlines()
    found = [line for line in lines if line.strip().startswith(("linux/", "sha256:"))]
    assert [line.split()[0] for line in found] == [inner.digest, "linux/amd64", "linux/arm64", one.digest]
    assert [len(line) - len(line.lstrip()) for line in found] == [2, 6, 6, 2]
    assert found[-1].endswith("(as above)")
    assert any(line.startswith("        referrers:") for line in lines)
    assert sum("entrypoint" in line for line in lines) == 1


def test_show_goes_into_an_index(run, repository, one):
    other = image("other")
    push(repository, other)
    many(repository, one, other)
    assert json.loads(run("show", "library/app:many", "--platform", "linux/arm64", "--json"))["digest"] == other.digest
    missing = run.try_("show", "library/app:many", "--platform", "linux/s390x")
    assert missing.exit_code == 45
    assert "there are linux/amd64, linux/arm64" in missing.stderr
    assert run.try_("show", "library/app:many", "--platform", "linux").exit_code == 10


def test_show_config_prints_the_config(run, repository, one):
    assert run.try_("show", "library/app:v1", "--config", "--json").stdout_bytes == one.config
    pretty = run("show", "library/app:v1", "--config")
    assert "\x1b" not in pretty
    assert json.loads(pretty) == json.loads(one.config)
    assert pretty.count("\n") > 10
    push(repository, artifact("note"), "note")
    assert run.try_("show", "library/app:note", "--config").exit_code == 18


def test_show_marks_what_is_not_in_the_store(run, repository, store, one):
    foreign = described(b"elsewhere", mediatypes.DOCKER_FOREIGN_LAYER, urls=["https://example.org/layer"])
    body = json.loads(one.manifest)
    body["layers"].append(foreign)
    repository.put_manifest(document(body), tags=["v2"])
    lines = run("show", "library/app:v2").splitlines()
    assert next(line for line in lines if foreign["digest"] in line).endswith("(not in the store)")
    assert sum("(not in the store)" in line for line in lines) == 1

    many(repository, one)
    (store.root / "blobs" / "sha256" / one.digest.encoded).unlink()
    assert "(damaged)" in run("show", "library/app:many")
    (store.root / "blobs" / "sha256" / Digest.of(one.config).encoded).unlink()


def test_show_says_what_is_wrong_with_a_config(run, repository):
    bad = layered(*LAYERS, config={"config": {"Cmd": 1}})
    put(repository, bad, "v1")
    assert "(not readable: config.Cmd: 1 is not a list of texts)" in run("show", "library/app:v1")


def test_show_of_an_artifact_prints_titles(run, store, tmp_path):
    (tmp_path / "note\x9b.txt").write_bytes(b"a note")
    push_files(store, "notes:v1", [tmp_path / "note\x9b.txt"])
    assert "note\\x9b.txt" in run("show", "notes:v1")


# --- ls-files ---------------------------------------------------------------------------------------------------------


def test_ls_files_lists_as_tar_does(run, one):
    assert run("ls-files", "library/app:v1").splitlines() == [
        "-rw-r--r--         0/0          1 1970-01-01 00:00 esc\\x1b[2J\\n",
        "drwxr-xr-x         0/0          0 1970-01-01 00:00 etc/",
        "lrwxrwxrwx         0/0          0 1970-01-01 00:00 etc/link -> os-release",
        "-rw-r--r--         0/0          9 2023-11-14 22:13 etc/os-release",
    ]
    assert run("ls-files", "library/app:v1", "/etc/link").splitlines()[0].endswith("etc/link -> os-release")
    assert len(run("ls-files", "library/app:v1", "--layer", "1").splitlines()) == 3


def test_ls_files_prints_json(run, repository, one):
    text = run("ls-files", "library/app:v1", "etc/", "--json")
    assert len(text.splitlines()) == 5
    printed = json.loads(text)
    assert printed[2] == {
        "path": "etc/os-release",
        "kind": "file",
        "size": 9,
        "mode": "0644",
        "mtime": "2023-11-14T22:13:20Z",
        "uid": 0,
        "gid": 0,
        "target": "",
        "layer": repository.get_manifest("v1").layers[0].to_json(),
    }
    assert printed[1]["target"] == "os-release"


def test_ls_files_shows_times_that_no_calendar_has(run, repository):
    put(repository, layered(archive(member("a", mtime=1 << 55), member("b", kind=b"3", mode=0o7777))), "v1")
    lines = run("ls-files", "library/app:v1").splitlines()
    assert lines[0].split()[3] == str(1 << 55)
    assert json.loads(run("ls-files", "library/app:v1", "--json"))[0]["mtime"] == 1 << 55
    assert lines[1].split()[0] == "c" + stat.filemode(0o7777)[1:]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["ls-files", "library/app:v1", "nothing"], 46),
        (["ls-files", "library/app:v1", "--layer", "3"], 10),
        (["ls-files", "library/app:v1", "--platform", "linux/arm64"], 45),
        (["ls-files", "library/app"], 10),
        (["ls-files", "library/app:v2"], 16),
        (["cat", "library/app:v1:nothing"], 46),
        (["cat", "library/app:v1:etc"], 46),
        (["cat", "library/app:v1", "--platform", "linux/amd64"], 2),
        (["cat", "library/app:etc/link"], 10),
        (["cat", "library/app:v2:etc/link"], 16),
    ],
)
def test_what_is_not_there_has_its_exit_code(run, one, arguments, code):
    assert run.try_(*arguments).exit_code == code


# --- cat --------------------------------------------------------------------------------------------------------------


def test_cat_prints_a_file_of_an_image(run, repository, one):
    for reference in ("library/app:v1", f"library/app@{one.digest}", f"library/app:any@{one.digest}"):
        for path in ("etc/link", "/etc/os-release"):
            assert run.try_("cat", f"{reference}:{path}").stdout_bytes == b"NAME=one\n"
    push(repository, other := image("other"))
    many(repository, one, other)
    assert run.try_("cat", "library/app:many:etc/link", "--platform", "linux/amd64").stdout_bytes == b"NAME=one\n"


def test_cat_prints_a_file_of_an_artifact(run, store, tmp_path):
    (tmp_path / "a:b").write_bytes(b"a colon in a name")
    push_files(store, "notes:v1", [tmp_path / "a:b"])
    assert run("cat", "notes:v1:a:b") == "a colon in a name"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("app:v1", ("app:v1", None)),
        ("app", ("app", None)),
        ("app@sha256:abc", ("app@sha256:abc", None)),
        ("app:v1@sha256:abc", ("app:v1@sha256:abc", None)),
        ("app:v1:etc", ("app:v1", "etc")),
        ("app:v1:", ("app:v1", "")),
        ("app:v1:/a:b@c", ("app:v1", "/a:b@c")),
        ("app@sha256:abc:a:b", ("app@sha256:abc", "a:b")),
        ("app:v1@sha256:abc:a@b:c\n", ("app:v1@sha256:abc", "a@b:c\n")),
    ],
)
def test_a_path_stands_behind_a_tag_or_digest(text, parts):
    assert split_path(text) == parts


# --- referrers --------------------------------------------------------------------------------------------------------


def test_attach_and_discover(run, repository, one, tmp_path):
    (tmp_path / "sbom.json").write_bytes(b"{}")
    sbom = run("attach", "library/app:v1", tmp_path / "sbom.json", "--artifact-type", "application/spdx+json").strip()
    signature = json.loads(
        run("attach", f"library/app@{sbom}", "--artifact-type", "a/b", "--annotation", "by=me\x1b[2J", "--json")
    )
    assert signature["artifactType"] == "a/b"
    assert signature["tag"] is None
    assert [line.split()[:2] for line in run("discover", "library/app:v1", "--annotations").splitlines()] == [
        [one.digest],
        ["application/spdx+json", sbom],
        ["a/b", signature["digest"]],
        ["by:", "me\\x1b[2J"],
    ]
    listed = json.loads(run("discover", "library/app:v1", "--json"))
    assert [(each["digest"], each["subject"], each["depth"]) for each in listed] == [
        (sbom, one.digest, 1),
        (signature["digest"], sbom, 2),
    ]
    assert run("discover", "library/app:v1", "--artifact-type", "a/b").splitlines() == [one.digest]
    assert run.try_("attach", "library/app:v1", tmp_path / "sbom.json").exit_code == 2
    assert run.try_("attach", "library/app:v1", "--artifact-type", "a/b").exit_code == 24
    assert run.try_("discover", "library/app:v9").exit_code == 16


def test_a_long_chain_is_printed_without_pushing_it_out_of_sight(run, repository, store):
    subject = note(0)
    root = subject
    with store.transaction() as transaction:
        changes = transaction.repository("library/app")
        push(changes, subject, "root")
        for number in range(1, 100):
            subject = index(annotations={"number": str(number)}, subject=subject)
            changes.put_manifest(subject.manifest)
    lines = run("discover", "library/app:root").splitlines()
    assert len(lines) == 100
    assert max(len(line) - len(line.lstrip()) for line in lines) == 64
    assert "(99)" in lines[-1]
    assert json.loads(run("discover", "library/app:root", "--json"))[-1]["depth"] == 99
    assert root.digest in run("show", "library/app:root")


def test_indexes_that_are_about_what_is_in_them_are_printed_in_lines_not_squares(run, repository):
    inner = image("inner")
    for number in range(30):
        inner = index([inner], subject=inner, annotations={"number": str(number)})
    push(repository, inner, "v1")
    lines = run("show", f"{repository.name}:v1").splitlines()
    assert len(lines) < 200


# --- unpack -----------------------------------------------------------------------------------------------------------


def test_unpack_writes_the_files_and_prints_which_image_that_was(run, one, tmp_path):
    result = run.try_("unpack", "library/app:v1", tmp_path / "rootfs")
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{one.digest}\n", "")
    assert (tmp_path / "rootfs/etc/link").read_bytes() == b"NAME=one\n"
    assert sorted(path.name for path in (tmp_path / "rootfs/etc").iterdir()) == ["link", "os-release"]


def test_unpack_says_what_it_leaves_out(run, repository, tmp_path):
    put(repository, layered(archive(member("su\x1b", b"run", mode=0o4755))), "v1")
    result = run.try_("unpack", "library/app:v1", tmp_path / "rootfs")
    assert result.exit_code == 0
    assert result.stderr.startswith("left out: su\\x1b (setuid bit): ")
    report = json.loads(run("unpack", "library/app:v1", tmp_path / "other", "--json"))
    assert (report["files"], report["leftOut"][0]["what"]) == (1, "setuid bit")


def test_unpack_refuses_a_directory_that_has_something_in_it(run, one, tmp_path):
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "rootfs/mine").touch()
    result = run.try_("unpack", "library/app:v1", tmp_path / "rootfs")
    assert (result.exit_code, result.stderr) == (1, f"Error: {tmp_path / 'rootfs'}: Directory not empty\n")
