"""The programs in docs/examples do what they say, as processes of their own."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from images import SIGNATURE, image, index, push

from ocistore import ManifestNotFoundError, Store
from ocistore.artifacts import push_files

DOCS = Path(__file__).parents[1] / "docs"
PROGRAMS = sorted((DOCS / "examples").glob("*.py"))
MIB = 1 << 20


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONUNBUFFERED": "1"}


def run(program, *arguments, code=0):
    """Run a program to its end; return what it printed."""
    command = [sys.executable, DOCS / "examples" / program, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), timeout=120)
    assert done.returncode == code, done.stderr
    return done.stdout


@pytest.fixture
def model(tmp_path):
    """A directory with the files of a model."""
    directory = tmp_path / "model"
    (directory / "tokenizer").mkdir(parents=True)
    (directory / "weights.safetensors").write_bytes(os.urandom(3 * MIB))
    (directory / "config.json").write_text('{"layers": 12}')
    (directory / "tokenizer" / "vocab.txt").write_text("[CLS]")
    return directory


def test_the_page_of_programs_lists_each_of_them():
    listed = re.findall(r"^\| \[(\w+\.py)\]", (DOCS / "examples.md").read_text(), re.MULTILINE)
    assert sorted(listed) == [program.name for program in PROGRAMS]


def test_every_program_is_run_here():
    text = Path(__file__).read_text()
    assert all(f'"{program.name}"' in text for program in PROGRAMS)


class TestModelServer:
    @pytest.fixture
    def client(self, tmp_path, model):
        for package in ("fastapi", "uvicorn", "httpx"):
            if not os.environ.get("OCISTORE_REQUIRE_ALL"):
                pytest.importorskip(package)
        import httpx

        with Store.open(tmp_path / "store") as store:
            push_files(store, "models/bert:1", [model], contents=True)
        command = [sys.executable, DOCS / "examples" / "model_server.py", tmp_path / "store", "0"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment()) as server:
            said = ""
            while not (match := re.search(r"running on (http://\S+)", said)):
                line = server.stderr.readline()
                assert line, said
                said += line
            with httpx.Client(base_url=match[1]) as client:
                yield client
            server.terminate()
            server.stderr.read()
            assert server.wait(30) in (0, -15)

    def test_it_lists_models_versions_and_files(self, client):
        assert client.get("/models").json() == ["bert"]
        [version] = client.get("/models/bert").json()
        assert version["name"] == "1"
        assert version["totalSize"] > 3 * MIB
        assert client.get("/models/bert/1").json() == {
            "config.json": 14,
            "tokenizer/vocab.txt": 5,
            "weights.safetensors": 3 * MIB,
        }

    def test_it_serves_files_whole_and_in_ranges(self, client, model):
        weights = (model / "weights.safetensors").read_bytes()
        address = "/models/bert/1/weights.safetensors"
        whole = client.get(address)
        assert (whole.status_code, whole.content) == (200, weights)
        for asked, part in [("0-7", weights[:8]), ("1000000-2999999", weights[1000000:3000000]), ("-5", weights[-5:])]:
            answer = client.get(address, headers={"Range": f"bytes={asked}"})
            assert (answer.status_code, answer.content) == (206, part)
            assert answer.headers["ETag"] == whole.headers["ETag"]
        rest = client.get(address, headers={"Range": f"bytes={3 * MIB - 3}-"})
        assert rest.headers["Content-Range"] == f"bytes {3 * MIB - 3}-{3 * MIB - 1}/{3 * MIB}"
        assert client.get(address, headers={"Range": f"bytes={3 * MIB}-"}).status_code == 416
        assert client.get(address, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304

    def test_what_does_not_exist_is_404_and_says_so(self, client):
        for path in ("/models/gpt", "/models/bert/2", "/models/bert/1/nothing"):
            assert client.get(path).status_code == 404
        assert client.get("/models/bert/2").json()["code"] == "MANIFEST_UNKNOWN"


class TestModelHub:
    def test_versions_are_pushed_listed_compared_deleted_and_pulled(self, tmp_path, model):
        store = tmp_path / "store"
        run("model_hub.py", store, "push", "bert", "1", model)
        (model / "config.json").write_text('{"layers": 240}')
        (model / "notes.txt").write_text("new")
        run("model_hub.py", store, "push", "bert", "2", model)

        assert run("model_hub.py", store, "compare", "bert", "1", "2").splitlines() == [
            "changed config.json, 14 to 15 bytes",
            "added notes.txt, 3 bytes",
        ]
        newest, oldest = run("model_hub.py", store, "versions", "bert").splitlines()
        assert re.fullmatch(r"2\t[\d-]+ [\d:]+\t[\d,]+ bytes\t18 its own", newest)
        assert re.fullmatch(r"1\t[\d-]+ [\d:]+\t[\d,]+ bytes\t14 its own", oldest)

        freed = re.fullmatch(r"freed (\d+) bytes\n", run("model_hub.py", store, "delete", "bert", "1"))
        assert int(freed[1]) > 14  # the config that only this version had, and its manifest
        assert len(run("model_hub.py", store, "versions", "bert").splitlines()) == 1
        assert run("model_hub.py", store, "pull", "bert", "2", tmp_path / "out") == "4 files\n"
        assert (tmp_path / "out" / "config.json").read_text() == '{"layers": 240}'

    def test_a_version_is_pushed_once(self, tmp_path, model):
        run("model_hub.py", tmp_path / "store", "push", "bert", "1", model)
        (model / "config.json").write_text("other")
        run("model_hub.py", tmp_path / "store", "push", "bert", "1", model, code=1)


class TestNightlyImport:
    def leave(self, tmp_path, name, tags):
        """Write a layout as skopeo does, by skopeo itself where it is installed."""
        with Store.open(tmp_path / "upstream") as upstream:
            for tag in tags:
                push(upstream.repository(name), image(f"{name} {tag}"), tag)
            upstream.export(tmp_path / "exported", [name])
        if shutil.which("skopeo"):
            for tag in tags:
                ends = (f"oci:{tmp_path / 'exported'}:{tag}", f"oci:{tmp_path / 'tonight' / name}:{tag}")
                (tmp_path / "tonight" / name).parent.mkdir(parents=True, exist_ok=True)
                subprocess.run(["skopeo", "--insecure-policy", "copy", "-q", *ends], check=True)
        else:
            shutil.copytree(tmp_path / "exported", tmp_path / "tonight" / name, dirs_exist_ok=True)
        shutil.rmtree(tmp_path / "exported")

    def test_the_newest_five_of_each_image_are_kept(self, tmp_path):
        self.leave(tmp_path, "tools/app", [f"1.{number}" for number in range(4)])
        run("nightly_import.py", tmp_path / "store", tmp_path / "tonight")
        self.leave(tmp_path, "tools/app", ["2.0", "2.1", "2.2"])
        said = run("nightly_import.py", tmp_path / "store", tmp_path / "tonight")

        with Store.open(tmp_path / "store") as store:
            kept = list(store.repository("tools/app").tags())
            assert len(kept) == 5
            assert {"2.0", "2.1", "2.2"} <= set(kept)
        assert said.count("is no longer kept") == 2

    def test_a_damaged_layout_is_reported_and_the_others_are_imported(self, tmp_path):
        self.leave(tmp_path, "bad", ["1"])
        self.leave(tmp_path, "good", ["1"])
        (tmp_path / "tonight" / "bad" / "index.json").write_text("{")
        run("nightly_import.py", tmp_path / "store", tmp_path / "tonight", code=1)
        with Store.open(tmp_path / "store") as store:
            assert list(store.repositories()) == ["good"]


class TestWorkerPool:
    def test_all_results_are_in_one_index(self, tmp_path):
        for number in range(6):
            (tmp_path / f"{number}.txt").write_text(f"b{number}\na\n")
        files = [tmp_path / f"{number}.txt" for number in range(6)]
        run("worker_pool.py", tmp_path / "store", "batches/sorted", *files)
        with Store.open(tmp_path / "store") as store:
            repository = store.repository("batches/sorted")
            children = repository.get_manifest("latest").manifests
            layers = [repository.get_manifest(child).layers[0] for child in children]
            assert [repository.open_blob(layer).read() for layer in layers] == [
                f"a\nb{number}\n".encode() for number in range(6)
            ]


class TestPromote:
    @pytest.fixture
    def store(self, tmp_path):
        with Store.open(tmp_path / "store") as store:
            yield store

    def test_an_image_of_several_platforms_is_promoted_with_its_signature(self, store):
        platforms = [image(architecture) for architecture in ("amd64", "arm64")]
        whole = index(platforms)
        push(store.repository("staging/app"), whole, "1.0")
        push(store.repository("staging/app"), image("signature", subject=whole, artifact_type=SIGNATURE))
        run("promote.py", store.root, "app", "1.0")

        production = store.repository("production/app")
        assert list(production.tags()) == ["1.0", "latest"]
        assert production.resolve("latest").digest == whole.digest
        assert [found.artifact_type for found in production.referrers(whole.digest)] == [SIGNATURE]
        for child in production.get_manifest("1.0").manifests:
            assert production.open_blob(production.get_manifest(child).layers[0]).read()

    def test_a_released_version_is_not_replaced(self, store):
        push(store.repository("staging/app"), image("one"), "1.0")
        run("promote.py", store.root, "app", "1.0")
        before = store.repository("production/app").resolve("1.0")
        push(store.repository("staging/app"), image("two"), "1.0", "2.0")
        run("promote.py", store.root, "app", "1.0", code=1)
        assert store.repository("production/app").resolve("latest") == before
        run("promote.py", store.root, "app", "2.0")
        assert store.repository("production/app").resolve("latest") != before
        with pytest.raises(ManifestNotFoundError):
            store.repository("production/app").resolve("3.0")
