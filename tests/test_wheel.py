"""The wheel, built and installed where the checkout cannot help it."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from earlier import to_revision

from ocistore import Store

CHECKOUT = Path(__file__).resolve().parent.parent

USE = textwrap.dedent(
    """
    import json, sys
    from pathlib import Path
    import ocistore
    from ocistore.catalog.migrate import migrations_directory

    assert "site-packages" in ocistore.__file__, ocistore.__file__
    assert migrations_directory() == Path(ocistore.__file__).parent / "_migrations"
    ocistore.Store.open("new").close()
    assert "alembic" not in sys.modules
    with ocistore.Store.open("store") as store:
        assert "alembic" in sys.modules  # it migrated
        app = store.repository("app")
        blob = app.put_blob(b"{}")
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
                 "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": blob.digest, "size": 2}}
        app.put_manifest(json.dumps(index).encode(), tags=["v1"])
        print(store.export("layout").names)
    """
)


def run(*command, cwd):
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "OCISTORE"))}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
def test_the_wheel_opens_migrates_and_exports_outside_the_checkout(tmp_path):
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, CHECKOUT, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    run(sys.executable, "-m", "venv", "environment", cwd=tmp_path)
    run("environment/bin/pip", "install", "--quiet", wheel, cwd=tmp_path)
    Store.open(tmp_path / "store").close()
    to_revision(tmp_path / "store", "0001")
    assert "app:v1" in run("environment/bin/python", "-c", USE, cwd=tmp_path)
    assert (tmp_path / "layout" / "index.json").exists()
    assert run("environment/bin/ocistore", "--store", "store", "tags", "app", cwd=tmp_path).split() == ["v1"]
    assert "v1" in run("environment/bin/ocistore", "--store", "store", "show", "app:v1", cwd=tmp_path)
    environment = tmp_path / "environment"
    assert next(environment.rglob("ocistore/py.typed"))
    manual = environment / "share" / "man" / "man1"
    assert {page.name for page in manual.iterdir()} >= {"ocistore.1", "ocistore-push.1", "ocistore-db-check.1"}
    assert "standard input" in (manual / "ocistore-push.1").read_text()
    assert next(environment.rglob("ocistore/_migrations/versions/0001_*.py"))
