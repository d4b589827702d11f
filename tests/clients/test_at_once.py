"""Several processes at once: what becomes of tags in a layout that skopeo writes, and in a store."""

import subprocess
import sys

import pytest
from contents import Content
from handmade import names, verified
from required import require
from state import catalog

from ocistore import Store

WRITERS = 4
ROUNDS = 60
"""Of skopeo, at most, until it lost a tag; it was seen to in the first three."""
IMPORTS = 2
"""Rounds of ours; none may lose anything."""
PATIENCE = 120
"""Seconds."""

pytestmark = [pytest.mark.clients, pytest.mark.slow]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Layouts, each with an image of its own under the tag v1."""
    directory = tmp_path_factory.mktemp("sources")
    made = []
    for number in range(WRITERS):
        content = Content(f"image {number}")
        content.root = content.image([f"layer-{number}", "shared"])
        made.append(content.write(directory / str(number)))
    return made


def at_once(commands):
    """Start all, then wait for all; what each printed on standard error, and whether it succeeded."""
    started = [
        subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for command in commands
    ]
    ended = [(process.communicate(timeout=PATIENCE)[1], process.returncode) for process in started]
    return [(code == 0, errors) for errors, code in ended]


def test_four_copies_of_skopeo_into_one_layout_lose_tags(sources, tmp_path):
    require("skopeo", install="apt-get install skopeo")
    for number in range(ROUNDS):
        shared = tmp_path / str(number)
        copy = ["skopeo", "--insecure-policy", "copy", "--quiet"]
        pairs = [(f"oci:{source}:v1", f"oci:{shared}:v{writer}") for writer, source in enumerate(sources)]
        done = at_once([[*copy, *pair] for pair in pairs])
        said_to_be_there = {f"v{writer}" for writer, (succeeded, _) in enumerate(done) if succeeded}
        if said_to_be_there - names(shared).keys():
            return
    pytest.fail(f"skopeo lost nothing in {ROUNDS} rounds: is a layout safe with several writers now?")


def test_four_imports_into_one_store_lose_none(sources, tmp_path):
    with Store.open(tmp_path / "store") as store:
        for number in range(IMPORTS):
            command = [sys.executable, "-m", "ocistore", "--store", store.root, "import"]
            done = at_once([[*command, source, f"round{number}/app{writer}"] for writer, source in enumerate(sources)])
            assert [errors for succeeded, errors in done if not succeeded] == []
            again = at_once([[*command, source, f"round{number}/one"] for source in sources])
            assert [errors for succeeded, errors in again if not succeeded] == []
        expected = {
            f"round{number}/app{writer}": names(source)["v1"]
            for number in range(IMPORTS)
            for writer, source in enumerate(sources)
        }
        found = {name: store.repository(name).resolve("v1").digest for name in expected}
        assert found == expected
        for number in range(IMPORTS):
            history = list(store.repository(f"round{number}/one").history("v1"))
            assert {event.new for event in history} == {names(source)["v1"] for source in sources}
        store.export(tmp_path / "out")
        assert verified(tmp_path / "out").keys() == {digest for source in sources for digest in verified(source)}
        with catalog(store.root) as connection:
            assert connection.execute("PRAGMA foreign_key_check").fetchall() == []
