"""Every client, both directions, every form and every kind of content: docs/clients.md says what comes of it."""

import fcntl
import os
import re
import secrets
import shutil
import tempfile
from pathlib import Path

import pytest
from clients import CLIENTS, Bench
from contents import CONTENTS, REPOSITORY, TAG
from found import (
    DOCKER_ARCHIVE,
    LAYOUT,
    OCI_ARCHIVE,
    SAME_IMAGE,
    compared,
    compared_parts,
    in_archive,
    in_docker_archive,
    in_layout,
    missing_from,
)
from handmade import IMAGE_NAME, REF_NAME, listed
from page import IN, PAGE, UNKNOWN, Page, cells, names, parse, render
from programs import ClientError, run, said
from required import require
from state import pool

from ocistore import LayoutInvalidError, OCIStoreError, Store

WRITE = "OCISTORE_WRITE_CLIENTS"

_FORMS = {LAYOUT: "dir", OCI_ARCHIVE: "oci-archive", DOCKER_ARCHIVE: "docker-archive"}
PLATFORM = ["linux/amd64"]

QUICK = {
    (client, form, content)
    for client in ("skopeo", "umoci")
    for form in (LAYOUT,)
    for content in ("single image", "multi-platform index")
}
"""What a plain run tries."""


@pytest.fixture(scope="session")
def bench():
    # Not where pytest has its directories: podman wants paths of 50 characters at most, and sockets of 108. Nor of a
    # name that tempfile makes up: podman takes the path for an image's name, which cannot end with an underscore.
    directory = Path(tempfile.gettempdir()) / f"clients-{secrets.token_hex(4)}"
    directory.mkdir(mode=0o700)
    made = Bench(directory)
    yield made
    made.close()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def filled(tmp_path_factory):
    """A store with each content in a repository of its own, where its referrers are, too."""
    with Store.open(tmp_path_factory.mktemp("filled") / "store") as store:
        for name, content in CONTENTS.items():
            store.import_(content.write(tmp_path_factory.mktemp("source") / "layout"), _repository(name))
        yield store


def _repository(content):
    return f"{REPOSITORY}/{content.lower().replace(' ', '-')}"


@pytest.fixture(scope="session")
def page():
    """What the page says."""
    return parse(PAGE.read_text() if PAGE.exists() else "")


@pytest.fixture(scope="session")
def found():
    """What was found, which is written to the page where that is asked for."""
    filled_in = Page()
    yield filled_in
    if os.environ.get(WRITE):
        with open(PAGE, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)  # several processes may run these tests, each of them some
            file.seek(0)
            text = render(parse(file.read()).updated(filled_in))
            file.truncate(0)
            file.write(text)


@pytest.fixture
def ready(bench, found):
    """Brings a client into position, and skips the test, or fails, where it is not installed."""

    def make(name):
        client = CLIENTS[name](bench)
        require(*client.programs, install=client.install)
        if name not in found.versions:
            version = run(*client.version, inside=bench.directory)
            found.versions[name] = re.findall(r"\d+\.\d+\.\d+\S*", version)[0]
        return client

    return make


def _marks(cell):
    marks = [pytest.mark.clients]
    if (cell.client, cell.form, cell.content) not in QUICK:
        marks.append(pytest.mark.slow)
    return marks


@pytest.mark.parametrize("cell", [pytest.param(cell, id=str(cell), marks=_marks(cell)) for cell in cells()])
def test_a_client_and_ocistore_understand_each_other_as_the_page_says(cell, ready, page, found, request):
    client = ready(cell.client)
    try:
        if cell.direction == IN:
            store = request.getfixturevalue("store")
            outcome = taken_in(client, CONTENTS[cell.content], cell.form, store)
        else:
            filled = request.getfixturevalue("filled")
            outcome = given_out(client, CONTENTS[cell.content], cell.form, filled)
    except ClientError as error:
        outcome = f"{cell.client}: {error}"
    found.outcomes[cell] = outcome
    if not os.environ.get(WRITE):
        assert outcome == page.outcomes.get(cell)


def taken_in(client, content, form, store):
    """Let the client write and import that; all that came in must be what it wrote."""
    written = client.bench.fresh() / ("layout" if form == LAYOUT else "archive.tar")
    client.write(content, form, written)
    if form == LAYOUT and (lost := missing_from(written)):
        with pytest.raises(LayoutInvalidError) as caught:
            store.import_(written, REPOSITORY)
        assert [problem for problem in caught.value.problems if "missing" in problem]
        assert all(any(digest in problem for problem in caught.value.problems) for digest in lost)
        return f"{client.name}: deleted {len(lost)} of {len(content.blobs)} blobs, all of which ocistore names"
    if form == DOCKER_ARCHIVE:
        wrote = in_docker_archive(written)
    else:
        wrote = in_layout(written) if form == LAYOUT else in_archive(written, written.with_name("unpacked"))
    try:
        store.import_(written, REPOSITORY)
    except OCIStoreError as error:
        return f"ocistore: {said(str(error), client.bench.directory)}"
    repository = store.repository(REPOSITORY)
    tags = {tag: repository.resolve(tag).digest for tag in repository.tags()}
    if form != DOCKER_ARCHIVE:
        assert tags == wrote.tags
        assert pool(store.root) == wrote.blobs
        return compared(content, wrote)
    assert tags.keys() == {TAG}
    manifest = repository.get_manifest(TAG)
    with repository.open_blob(manifest.config.digest) as config:
        assert config.read() == wrote.config
    for layer, bytes_ in zip(manifest.layers, wrote.layers, strict=True):
        with repository.open_blob(layer.digest) as opened:
            assert opened.read() == bytes_
    return compared_parts(content, wrote.config, wrote.layers, same=SAME_IMAGE)


def given_out(client, content, form, filled):
    """Export and let the client read that."""
    written = client.bench.fresh() / ("layout" if form == LAYOUT else "archive.tar")
    # A Docker archive has images only: no referrers, and of an index the image for one platform.
    only = {"platforms": PLATFORM} if form == DOCKER_ARCHIVE else {"referrers": True}
    reference = f"{_repository(content.name)}:{TAG}={REPOSITORY}:{TAG}"
    try:
        filled.export(written, [reference], format=_FORMS[form], **only)
    except OCIStoreError as error:
        return f"ocistore: {said(str(error), client.bench.directory)}"
    return client.read(content, form, written)


@pytest.mark.clients
@pytest.mark.slow
@pytest.mark.parametrize("row", [pytest.param(row, id=str(row)) for row in names()])
def test_the_names_that_a_client_writes_become_those_that_the_page_says(row, ready, page, found, store):
    client = ready(row.client)
    written = client.bench.fresh() / ("layout" if row.form == LAYOUT else "archive.tar")
    try:
        client.write(CONTENTS["single image"], row.form, written)
        told = _names_in(written, row.form)
    except ClientError:
        pair = ("nothing", "nothing")
    else:
        try:
            imported = ", ".join(store.import_(written).tags)
        except OCIStoreError as error:
            imported = str(error)
        pair = tuple(said(text, client.bench.directory) for text in (told, imported))
    found.names[row] = pair
    if not os.environ.get(WRITE):
        assert pair == page.names.get(row)


def _names_in(path, form):
    if form == DOCKER_ARCHIVE:
        return f"RepoTags {', '.join(in_docker_archive(path).tags)}"
    layout = path
    if form == OCI_ARCHIVE:
        layout = path.with_name("unpacked")
        in_archive(path, layout)
    annotations = [entry.get("annotations", {}) for entry in listed(layout)]
    kinds = (("ref.name", REF_NAME), ("image.name", IMAGE_NAME))
    return ", ".join(f"{kind} {pairs[key]}" for pairs in annotations for kind, key in kinds if key in pairs)


def test_the_page_has_every_cell_and_nothing_else():
    page = parse(PAGE.read_text())
    assert page.outcomes.keys() == set(cells())
    assert page.names.keys() == set(names())
    assert page.versions.keys() == CLIENTS.keys()
    assert UNKNOWN not in {*page.outcomes.values(), *page.versions.values(), *sum(page.names.values(), ())}
    assert render(page) == PAGE.read_text()
