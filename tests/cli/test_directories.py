"""push and pull of directories, as a person types it."""

import json
import os
import stat

import pytest


@pytest.fixture
def model(tmp_path, monkeypatch):
    top = tmp_path / "bert"
    (top / "tokenizer").mkdir(parents=True)
    (top / "config.json").write_bytes(b"{}")
    (top / "tokenizer" / "vocab.txt").write_bytes(b"[CLS]")
    monkeypatch.chdir(tmp_path)
    return top


def pulled(top):
    return sorted(str(path.relative_to(top)) for path in top.rglob("*") if path.is_file())


def test_the_titles_begin_with_the_name_of_the_directory(run, model):
    run("push", "models/bert:1", "bert")
    assert run("pull", "models/bert:1", "-o", "out").splitlines() == [
        os.path.abspath("out/bert/config.json"),
        os.path.abspath("out/bert/tokenizer/vocab.txt"),
    ]
    assert run("cat", "models/bert:1:bert/tokenizer/vocab.txt") == "[CLS]"


def test_contents_leaves_the_name_out(run, model):
    run("push", "models/bert:1", "bert/", "--contents")
    run("pull", "models/bert:1", "-o", "out")
    assert pulled(model.parent / "out") == ["config.json", "tokenizer/vocab.txt"]


@pytest.mark.parametrize("compression", [[], ["--compression", "none"], ["--compression", "zstd"]])
def test_tar_packs_one_archive(run, model, compression):
    run("push", "models/bert:1", "bert", "--tar", *compression)
    [layer] = json.loads(run("cat", "models/bert:1"))["layers"]
    assert layer["mediaType"].endswith(f"+{(compression or ['', 'gzip'])[1]}".removesuffix("+none"))
    run("pull", "models/bert:1", "-o", "out")
    assert pulled(model.parent / "out" / "bert") == ["config.json", "tokenizer/vocab.txt"]


def test_links_are_made_of_the_files_of_the_store(run, model):
    run("push", "models/bert:1", "bert")
    run("pull", "models/bert:1", "-o", "out", "--mode", "link")
    status = (model.parent / "out" / "bert" / "config.json").stat()
    assert status.st_nlink == 2
    assert stat.S_IMODE(status.st_mode) == 0o444


def test_links_are_followed_where_asked(run, model):
    (model / "inside").symlink_to("config.json")
    result = run.try_("push", "models/bert:1", "bert")
    assert result.exit_code == 24
    assert "--dereference" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    run("push", "models/bert:1", "bert", "--dereference-inside")
    assert run("cat", "models/bert:1:bert/inside") == "{}"
    (model / "outside").symlink_to(model.parent / "bert" / ".." / "secret")
    (model.parent / "secret").write_bytes(b"key")
    assert run.try_("push", "models/bert:2", "bert", "--dereference-inside").exit_code == 24
    run("push", "models/bert:2", "bert", "--dereference")
    assert run("cat", "models/bert:2:bert/outside") == "key"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--compression", "none"], "add --tar"),
        (["--tar", "--contents"], "leave out --tar"),
        (["--dereference", "--dereference-inside"], "not both"),
        (["--tar", "--compression", "xz"], "'xz' is not one of"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_do_not_go_together_say_what_to_do(run, model, options, said):
    for command in (["push", "models/bert:1", "bert"], ["attach", "models/bert:1", "bert", "--artifact-type", "a/b"]):
        result = run.try_(*command, *options)
        assert result.exit_code == 2
        assert said in result.stderr
