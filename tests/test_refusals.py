"""What a signal handler raises comes out as it was raised, whatever it interrupts: no answer, and no error of ours."""

import ast
import builtins
import contextlib
import errno
import gc
import itertools
import os
import random
import shutil
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from images import image, index, push
from instructions import Interrupted, count, where_a_signal_comes

import ocistore
from ocistore import Digest, Store, refusals
from ocistore.upkeep import rebuild

PACKAGE = Path(ocistore.__file__).parent
OF_THE_SYSTEM = {
    name for name, value in vars(builtins).items() if isinstance(value, type) and issubclass(value, OSError)
} - {"EnvironmentError", "IOError"}
ASK = ("is_refusal", "pass_on_theirs", "raise_translated", ".failed(", "refused(")  # the last calls raise_translated
SEED = int(os.environ.get("OCISTORE_SEED", "1"))
NOW = timedelta(0)
SIGNED = image("signed", layers=2)


def _classes(node):
    if isinstance(node, ast.Tuple):
        return set().union(*map(_classes, node.elts))
    return {node.id} if isinstance(node, ast.Name) else set()


def _unasked(module):
    """Where a module catches errors of the system without asking whose they are."""
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ExceptHandler) and node.type is not None and _classes(node.type) & OF_THE_SYSTEM:
            words = [ast.unparse(statement) for statement in node.body[:2]]
            if not any(word in text for text in words for word in (*ASK, "mark_theirs")) and words != ["raise"]:
                yield node.lineno
        elif isinstance(node, ast.Call):
            suppressed = node.args if ast.unparse(node.func) == "contextlib.suppress" else []
            if set().union(*map(_classes, suppressed)) & OF_THE_SYSTEM:
                yield node.lineno
            if _classes(node.func) & OF_THE_SYSTEM and len(node.args) < 2:
                yield node.lineno  # it would not have the number by which those of the system are known


def test_no_error_of_the_system_is_caught_without_asking_whose_it_is():
    mine = [path for path in PACKAGE.rglob("*.py") if not {"cli", "testing", "_migrations"} & set(path.parts)]
    found = {str(path.relative_to(PACKAGE)): lines for path in mine if (lines := list(_unasked(path)))}
    assert found.keys() == {"catalog/lock.py"}
    assert len(found["catalog/lock.py"]) == 1  # in a thread, where no handler runs


def test_an_unasked_catch_is_found(tmp_path):
    (tmp_path / "module.py").write_text(
        "try: pass\nexcept (KeyError, FileNotFoundError): pass\nwith contextlib.suppress(OSError): pass\n"
        "raise FileNotFoundError('it')\n"
    )
    assert sorted(_unasked(tmp_path / "module.py")) == [2, 3, 4]


class Works:
    """A store, what it is exported to and imported from, and operations on all of these."""

    def __init__(self, root):
        self.root = root
        self.store = Store.open(root / "store")
        push(self.store.repository("app"), SIGNED, "v1")
        push(self.store.repository("app"), image("signature", subject=SIGNED))
        push(self.store.repository("app"), index([image("a"), image("b")]), "index")
        self.store.export(root / "layout")
        self.store.export(root / "layout.tar")
        self.store.export(root / "layout.tar.gz")
        with Store.open(root / "rebuilt") as other:
            push(other.repository("app"), image("one"), "v1")
        self.numbers = itertools.count()

    def fresh(self, name):
        path = self.root / name
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
        return path

    def damage(self):
        for path, content in (
            (self.store._core.paths.blob(Digest.of(SIGNED.layers[0])), b"z" * len(SIGNED.layers[0])),
            (self.store._core.paths.blob(Digest.of(b"no row %d" % next(self.numbers))), b"no row"),
        ):
            path.unlink(missing_ok=True)
            path.write_bytes(content)

    def export(self):
        self.store.export(self.fresh("exported"))

    def export_again(self):
        self.store.export(self.root / "layout")

    def export_copies(self):
        self.store.export(self.fresh("exported"), mode="copy")

    def export_links(self):
        self.store.export(self.fresh("exported"), mode="link")

    def export_archive(self):
        self.store.export(self.fresh("exported.tar"))

    def export_in_place(self):
        self.store.export_in_place()

    def back_up(self):
        self.store.backup(self.fresh("backup"))

    def scrub(self):
        self.damage()
        self.store.scrub(level="deep", heal_from=[self.root / "layout"])

    def import_layout(self):
        self.store.import_(self.root / "layout", f"imported{next(self.numbers)}")

    def import_archive(self):
        self.store.import_(self.root / "layout.tar", f"imported{next(self.numbers)}")

    def import_stream(self):
        self.store.import_(self.root / "layout.tar.gz", f"imported{next(self.numbers)}")

    def copy(self):
        with Store.open(self.fresh("copy")) as other:
            self.store.copy_to(other)

    def collect(self):
        self.store.repository("app").put_blob(b"dead %d" % next(self.numbers))
        self.store.gc(grace=NOW, keep_untagged=NOW, force=True)

    def rebuild(self):
        rebuild.rebuild(shutil.copytree(self.root / "rebuilt", self.fresh("again")), force=True)


THEIRS = [
    TimeoutError(errno.ETIMEDOUT, "theirs"),
    FileNotFoundError(errno.ENOENT, "theirs"),
    FileExistsError(errno.EEXIST, "theirs"),
    PermissionError(errno.EACCES, "theirs"),
    BlockingIOError(errno.EAGAIN, "theirs"),
    NotADirectoryError(errno.ENOTDIR, "theirs"),
    OSError(errno.EIO, "theirs"),
    OSError(errno.ENOSPC, "theirs"),
    OSError(errno.EINVAL, "theirs"),
]
OPERATIONS = [name for name, value in vars(Works).items() if callable(value) and name not in {
    "__init__", "fresh", "damage"}]  # fmt: skip
IN_SHORT = ["import_layout", "copy", "scrub", "collect"]
"""What a plain run tries, three times each."""


def _open_files(root):
    """How many of the files below ``root`` are open, but for those of SQLite, which are kept for the next one."""
    gc.collect()
    found = []
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            name = os.readlink(f"/proc/self/fd/{number}")
            if name.startswith(str(root)) and "catalog.db" not in name and not name.startswith(str(root / "store")):
                found.append(name)
    return found


def _interrupt(tmp_path, name, times):
    """What went wrong in so many interrupts of an operation."""
    works = Works(tmp_path)
    work = getattr(works, name)
    chance = random.Random(f"{name} {SEED}")
    longest = count(work, where_a_signal_comes)
    unraisable, hook = [], sys.unraisablehook
    sys.unraisablehook = unraisable.append
    wrong, came = [], 0
    try:
        for _ in range(times):
            raised = chance.choice(THEIRS)
            interrupted = Interrupted(chance.randrange(1, longest), where_a_signal_comes, error=raised)
            caught = None
            try:
                with interrupted:
                    work()
            except BaseException as error:  # whatever it is: that is the question
                caught = error
            came += interrupted.reached
            # In a finalizer, or a thread, the interpreter reports it and goes on.
            if interrupted.reached and caught is not raised and not unraisable:
                wrong.append(f"{interrupted.place}: {raised!r} became {caught!r}")
            unraisable.clear()
            raised.__traceback__ = raised.__context__ = caught = None
            wrong += [f"{interrupted.place}: {path} is still open" for path in _open_files(tmp_path)]
    finally:
        sys.unraisablehook = hook
        works.store.close()
    assert came >= times * 2 // 3
    return wrong


@pytest.mark.parametrize("name", IN_SHORT)
def test_what_a_signal_handler_raises_is_never_an_answer(tmp_path, name):
    assert _interrupt(tmp_path, name, 3) == []


def test_errors_that_are_all_taken_for_the_systems_are_caught(tmp_path, monkeypatch):
    monkeypatch.setattr(refusals, "_was_given_a_frame", lambda frame: False)
    assert _interrupt(tmp_path, "export_links", 12) != []


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATIONS)
def test_what_a_signal_handler_raises_is_never_an_answer_at_many_places(tmp_path, name):
    assert _interrupt(tmp_path, name, 100) == []
