"""What Alembic runs: the migrations, on the connection ocistore hands over, or on the store of ``-x store=DIR``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import context

from ocistore.catalog import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection


def run(connection: Connection) -> None:
    # One transaction around the whole chain belongs to the caller: a crash leaves the old schema or the new one.
    context.configure(connection=connection, target_metadata=tables.metadata, render_as_batch=True)
    context.run_migrations()


def run_on_store(root: str) -> None:
    from ocistore.blobs.paths import StorePaths
    from ocistore.catalog.sqlite import SQLiteCatalog

    paths = StorePaths(Path(root))
    catalog = SQLiteCatalog(paths.root, database=Path(paths.catalog), lock=Path(paths.write_lock), read_only=False)
    try:
        with catalog.locked(), catalog.migrating() as (_, connection):
            run(connection)
    finally:
        catalog.close()


given = context.config.attributes.get("connection")
if given is not None:
    run(given)
elif "store" in context.get_x_argument(as_dictionary=True):
    run_on_store(context.get_x_argument(as_dictionary=True)["store"])
else:
    raise SystemExit("say which store: alembic -x store=DIR ...")
