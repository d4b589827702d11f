"""Serve versions of models over HTTP, with ranges: ``python model_server.py STORE [PORT]``.

A model is a repository under ``models/``, a version is a tag, and each file of a version is a layer, as ``ocistore push
models/bert:1 ./bert --contents`` makes them. Clients that read safetensors ask for the header of a file, and then for
the tensors that they need; nothing is copied or unpacked for that.
"""

from __future__ import annotations

import re
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Any

import uvicorn
from fastapi import FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse

from ocistore import BlobReader, OCIStoreError, Repository, Store
from ocistore.artifacts import TITLE

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from ocistore import Descriptor

STATUS = {"NAME_UNKNOWN": 404, "MANIFEST_UNKNOWN": 404, "BLOB_UNKNOWN": 404, "NAME_INVALID": 400, "UNAVAILABLE": 503}
PIECE = 1 << 20


def files_of(models: Repository, version: str) -> dict[str, Descriptor]:
    """Return the files of a version by their paths."""
    layers = models.get_manifest(version).layers
    return {layer.annotations[TITLE]: layer for layer in layers if TITLE in layer.annotations}


def requested(header: str | None, size: int) -> range | None:
    """Return the bytes that a Range header asks for; None where it asks for no single range (RFC 9110, 14.2)."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or match[0] == "bytes=-":
        return None
    first, last = match.groups()
    if not first:
        return range(max(0, size - int(last)), size)
    return range(int(first), min(size, int(last) + 1) if last else size)


def pieces(blob: BlobReader, part: range) -> Iterator[bytes]:
    """Yield a part of a blob, and close it. It stays readable, whatever is deleted meanwhile."""
    with blob:
        blob.seek(part.start)
        left = len(part)
        while left and (piece := blob.read(min(left, PIECE))):
            left -= len(piece)
            yield piece


def create_app(root: str) -> FastAPI:
    """Make the application; the store is open while it runs."""
    store = Store.open(root, create=False, read_only=True)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncGenerator[None]:
        with store:
            yield

    app = FastAPI(lifespan=lifespan)

    @app.exception_handler(OCIStoreError)
    async def explain(_: Request, error: OCIStoreError) -> JSONResponse:
        return JSONResponse({"code": error.code, "message": str(error)}, STATUS.get(error.code, 500))

    @app.get("/models")
    def list_models() -> list[str]:
        return [name.removeprefix("models/") for name in store.repositories(prefix="models/")]

    @app.get("/models/{name}")
    def list_versions(name: str) -> list[dict[str, Any]]:
        newest_first = store.repository(f"models/{name}").list_tags(sort="updated", total_size=True)
        return [version.to_json() for version in newest_first]

    @app.get("/models/{name}/{version}")
    def list_files(name: str, version: str) -> dict[str, int]:
        files = files_of(store.repository(f"models/{name}"), version)
        return {path: layer.size for path, layer in files.items()}

    @app.get("/models/{name}/{version}/{path:path}")
    def read_file(
        name: str,
        version: str,
        path: str,
        range_header: Annotated[str | None, Header(alias="range")] = None,
        if_none_match: Annotated[str | None, Header()] = None,
    ) -> StreamingResponse:
        models = store.repository(f"models/{name}")
        layer = files_of(models, version).get(path)
        if layer is None:
            raise HTTPException(404, f"{name} {version} has no file {path}")
        headers = {"Accept-Ranges": "bytes", "ETag": f'"{layer.digest}"'}  # a digest is a strong validator
        if if_none_match == headers["ETag"]:
            return StreamingResponse(iter(()), 304, headers)
        part = requested(range_header, layer.size)
        if part is not None and not part:
            raise HTTPException(416, headers={"Content-Range": f"bytes */{layer.size}"})
        if part is not None:
            headers["Content-Range"] = f"bytes {part.start}-{part.stop - 1}/{layer.size}"
        body = range(layer.size) if part is None else part
        headers["Content-Length"] = str(len(body))
        return StreamingResponse(pieces(models.open_blob(layer), body), 200 if part is None else 206, headers)

    return app


if __name__ == "__main__":
    uvicorn.run(create_app(sys.argv[1]), port=int(sys.argv[2]) if len(sys.argv) > 2 else 8000)
