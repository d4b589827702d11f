"""docs/json-schema.json says what --json prints, made of the types, and held against what the commands really print.

With OCISTORE_UPDATE_DOCS=1 it is brought up to date.
"""

import json
import os
import re
import types
from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

import click
import pytest
from images import note, push
from layered import archive, layered, member, put
from test_documented import commands

import ocistore
from ocistore import artifacts, images
from ocistore.cli.change import _Deleted
from ocistore.oci.jsonvalue import JSONValue, json_fields

DOCUMENT = Path(__file__).parents[2] / "docs" / "json-schema.json"

TEXT = {"type": "string"}
NUMBER = {"type": "number"}
WHOLE = {"type": "integer"}
OR_NULL = {"anyOf": [TEXT, {"type": "null"}]}
DIGEST = {"$ref": "#/$defs/digest"}
DESCRIPTOR = {
    "type": "object",
    "properties": {
        "mediaType": TEXT,
        "digest": DIGEST,
        "size": WHOLE,
        "annotations": {"type": "object", "additionalProperties": TEXT},
        "platform": {"type": "object"},
        "artifactType": TEXT,
        "urls": {"type": "array", "items": TEXT},
        "data": TEXT,
    },
    "required": ["mediaType", "digest", "size"],
    "additionalProperties": False,
}
SHARED = {
    "digest": {"type": "string", "pattern": "^[a-z0-9]+:[0-9a-f]+$"},
    "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$"},
    "descriptor": DESCRIPTOR,
}
PLAIN = {bool: {"type": "boolean"}, int: WHOLE, float: NUMBER, timedelta: NUMBER, type(None): {"type": "null"}}


def schema_of(hint):
    """What a field of this type is in JSON."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint in PLAIN:
        return PLAIN[hint]
    if hint is datetime:
        return {"$ref": "#/$defs/time"}
    if hint is ocistore.Digest:
        return DIGEST
    if hint is ocistore.Descriptor:
        return {"$ref": "#/$defs/descriptor"}
    if hint is Any:
        return {}
    if origin in (Union, types.UnionType):
        return {"anyOf": [schema_of(each) for each in arguments]}
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (tuple, list, frozenset):
        return {"type": "array", "items": schema_of(arguments[0])}
    if origin in (Mapping, dict):
        return {"type": "object", "additionalProperties": schema_of(arguments[1])}
    if isinstance(hint, type) and issubclass(hint, Enum):
        return {"enum": [each.value for each in hint]}
    if isinstance(hint, type) and (issubclass(hint, JSONValue) or hasattr(hint, "_fields")):
        if issubclass(hint, JSONValue) and "to_json" in vars(hint):
            return {"type": "object"}  # a document of OCI
        return closed(schema_of_fields(hint))
    return TEXT


def schema_of_fields(cls):
    return {field.key: schema_of(field.hint) for field in json_fields(cls)}


def closed(properties, optional=()):
    required = [key for key in properties if key not in optional]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def wider(more, base=DESCRIPTOR):
    """An object with more keys, which are always there."""
    return {
        **base,
        "properties": {**more, **base["properties"]},
        "required": [*more, *base["required"]],
    }


def many(schema):
    return {"type": "array", "items": schema}


def one_or_many(schema):
    return {"anyOf": [schema, many(schema)]}


PUSHED = wider({"repository": TEXT, "tag": OR_NULL})
DESCRIPTORS = many({"$ref": "#/$defs/descriptor"})
MAYBE = {"anyOf": [{"$ref": "#/$defs/descriptor"}, {"type": "null"}]}
SHOWN = closed(
    {
        "repository": TEXT,
        "digest": DIGEST,
        "mediaType": TEXT,
        "size": WHOLE,
        "artifactType": OR_NULL,
        "annotations": {"type": "object", "additionalProperties": TEXT},
        "config": MAYBE,
        "layers": DESCRIPTORS,
        "manifests": DESCRIPTORS,
        "subject": MAYBE,
        "absent": many(DIGEST),
        "tags": many(TEXT),
        "referrers": DESCRIPTORS,
    }
)
FILE = closed(
    {
        **{key: schema for key, schema in schema_of_fields(images.ImageFile).items() if key != "content"},
        "mode": {"type": "string", "pattern": "^[0-7]{4}$"},
        "mtime": {"anyOf": [{"$ref": "#/$defs/time"}, WHOLE]},
    }
)
COMMANDS = {
    "attach": PUSHED,
    "backup": schema_of(ocistore.BackupReport),
    "copy": schema_of(ocistore.CopyReport),
    "cp": PUSHED,
    "db check": schema_of(ocistore.CheckReport),
    "db compact": schema_of(ocistore.CompactReport),
    "db current": closed({"current": OR_NULL, "known": TEXT}),
    "db prune-history": schema_of(ocistore.HistoryReport),
    "db upgrade": closed({"from": OR_NULL, "to": TEXT}),
    "discover": many(wider({"subject": DIGEST, "depth": WHOLE})),
    "export": schema_of(ocistore.ExportReport),
    "gc": {"anyOf": [schema_of(ocistore.GCReport), schema_of(ocistore.Explanation)]},
    "import": schema_of(ocistore.ImportReport),
    "leases list": many(schema_of(ocistore.LeaseInfo)),
    "log": many(wider({"repository": TEXT}, schema_of(ocistore.TagEvent))),
    "ls-files": many(FILE),
    "pull": schema_of(artifacts.PullReport),
    "push": PUSHED,
    "rebuild": schema_of(ocistore.RebuildReport),
    "repos": many(closed({"name": TEXT})),
    "rm": one_or_many(schema_of(_Deleted)),
    "scrub": wider({"exitCode": WHOLE}, schema_of(ocistore.ScrubReport)),
    "show": one_or_many(SHOWN),
    "tags": many(schema_of(ocistore.TagInfo)),
    "unpack": schema_of(images.UnpackReport),
    "uploads list": many(wider({"repository": TEXT}, schema_of(ocistore.UploadInfo))),
    "usage": schema_of(ocistore.Usage),
}


def written():
    document = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What the commands of ocistore print with --json: #/$defs/COMMAND",
        "$defs": {**SHARED, **COMMANDS},
    }
    return json.dumps(document, indent=1) + "\n"


def test_the_document_is_what_the_types_say():
    if os.environ.get("OCISTORE_UPDATE_DOCS"):
        DOCUMENT.write_text(written())
    assert DOCUMENT.read_text() == written(), "run: OCISTORE_UPDATE_DOCS=1 pytest tests/cli/test_json_schema.py"


def test_every_command_that_prints_json_is_in_it():
    printing = {
        name.removeprefix("ocistore ")
        for name, command in commands().items()
        if not isinstance(command, click.Group) and any("--json" in option.opts for option in command.params)
    }
    assert printing == set(COMMANDS)


def wrong(schema, value, where="$"):
    """What is wrong with a value, by the words of JSON Schema that are used here."""
    if "$ref" in schema:
        return wrong(SHARED[schema["$ref"].rpartition("/")[2]], value, where)
    if "anyOf" in schema:
        found = [wrong(each, value, where) for each in schema["anyOf"]]
        return [] if [] in found else min(found, key=len)
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{where}: {value!r}"]
    kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool, "null": type(None)}
    kinds |= {"array": list, "object": dict}
    kind = schema.get("type")
    if kind is None:
        return []
    if not isinstance(value, kinds[kind]) or (kind in ("integer", "number") and isinstance(value, bool)):
        return [f"{where}: {value!r} is no {kind}"]
    if kind == "string" and "pattern" in schema and not re.search(schema["pattern"], value):
        return [f"{where}: {value!r}"]
    if kind == "array":
        return [each for at, item in enumerate(value) for each in wrong(schema["items"], item, f"{where}[{at}]")]
    if kind != "object":
        return []
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    found = [f"{where}: {key} is missing" for key in schema.get("required", ()) if key not in value]
    for key, item in value.items():
        if key in properties:
            found += wrong(properties[key], item, f"{where}.{key}")
        elif others is False:
            found.append(f"{where}: {key}")
        else:
            found += wrong(others, item, f"{where}.{key}")
    return found


@pytest.fixture
def printed(run, store, tmp_path):
    """What each command prints, on a store that has something of everything."""
    (tmp_path / "file").write_bytes(b"weights")
    push(store.repository("app"), note(1), "v1", "v2")
    push(store.repository("app"), note(2), "gone", "v3")
    upload = store.repository("app").start_upload()
    upload.close()
    found = {}

    def at(command, *arguments):
        found.setdefault(command, []).append(json.loads(run(*command.split(), *arguments, "--json")))

    at("push", "files:v1", tmp_path / "file")
    at("push", "files", tmp_path / "file", "--annotation", "a=b")
    at("attach", "files:v1", tmp_path / "file", "--artifact-type", "application/x")
    at("discover", "files:v1")
    at("pull", "files:v1", "-o", tmp_path / "out")
    at("ls-files", "files:v1")
    put(store.repository("image"), layered(archive(member("su", b"run", mode=0o4755))), "v1")
    at("unpack", "image:v1", tmp_path / "rootfs")
    at("cp", "app:v1", "production/app")
    at("show", "app:v1")
    at("show", "app:v1", "files:v1")
    at("log")
    at("tags", "app")
    at("repos")
    at("usage")
    at("uploads list")
    store.repository("app").cancel_upload(upload.id)
    with store.lease(ttl=timedelta(hours=1), reason="a test"):
        at("leases list")
    at("export", "app:v1", tmp_path / "layout")
    at("import", tmp_path / "layout", "again")
    at("copy", store.root, tmp_path / "other", "app:v1")
    at("rm", "app:v3", "--yes")
    at("gc", "--dry-run", "--grace", "0", "--keep-untagged", "0")
    at("gc", "--explain", "app:v1")
    at("gc")
    at("scrub")
    at("db check")
    at("db current")
    at("db upgrade")
    at("db compact")
    at("db prune-history", "--keep-last", "1")
    at("backup", tmp_path / "backup")
    store.close()
    at("rebuild", "--force")
    return found


def test_what_the_commands_print_is_what_it_says(printed):
    assert set(printed) == set(COMMANDS)
    found = [
        f"{command}: {each}"
        for command, values in printed.items()
        for value in values
        for each in wrong(COMMANDS[command], value)
    ]
    assert not found


def test_no_list_has_anything_but_objects(printed):
    for command, values in printed.items():
        for value in values:
            assert isinstance(value, dict) or all(isinstance(item, dict) for item in value), command


def test_a_wrong_value_is_noticed(printed):
    tags = printed["tags"][0]
    for change in ({"size": "1"}, {"updated": "yesterday"}, {"more": 1}, {"digest": None}):
        assert wrong(COMMANDS["tags"], [{**tags[0], **change}])
    assert wrong(COMMANDS["tags"], ["v1"])
