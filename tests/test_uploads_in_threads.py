"""One upload session, used by several threads at once; and closed by one in the middle of what another does."""

import contextlib
import os
import signal
import threading
import time

import pytest
from state import pool, strays

from ocistore import Digest, StoreBusyError, StoreClosedError
from ocistore.blobs.session import UploadFile

CHUNK = 4096


class Stopped:
    """The next call of a function of the pool's, which stops in the middle until it may go on."""

    def __init__(self, monkeypatch, name):
        self.reached = threading.Event()
        self.may_go_on = threading.Event()
        original = getattr(UploadFile, name)

        def stopping(file, *arguments):
            if not self.reached.is_set():
                self.reached.set()
                assert self.may_go_on.wait(30)
            return original(file, *arguments)

        monkeypatch.setattr(UploadFile, name, stopping)


class Call(threading.Thread):
    """A call in a thread of its own, with what it returned or raised."""

    def __init__(self, call):
        super().__init__(daemon=True)
        self.call, self.value, self.error = call, None, None
        self.start()

    def run(self):
        try:
            self.value = self.call()
        except Exception as error:
            self.error = error

    def ended(self):
        self.join(30)
        assert not self.is_alive()
        return self


def test_threads_that_write_take_turns_and_no_byte_is_lost(repository):
    def write(number):
        for _ in range(100):
            upload.write(bytes([number]) * CHUNK)

    with repository.start_upload() as upload:
        threads = [Call(lambda number=number: write(number)) for number in range(4)]
        assert [thread.ended().error for thread in threads] == [None] * 4
        assert upload.offset == 400 * CHUNK
        path = repository._core.root / "uploads" / upload.id
        content = path.read_bytes()
        chunks = [content[begin : begin + CHUNK] for begin in range(0, len(content), CHUNK)]
        assert sorted(chunks) == sorted(bytes([number]) * CHUNK for number in range(4) for _ in range(100))
        upload.commit(Digest.of(content))  # of the same bytes in the same order as they were hashed
    with repository.open_blob(Digest.of(content)) as reader:
        assert reader.read() == content


@pytest.mark.parametrize("end", ["close", "cancel"])
def test_who_ends_a_session_waits_until_a_chunk_is_written(store, repository, monkeypatch, end):
    upload = repository.start_upload()
    stopped = Stopped(monkeypatch, "append")
    writing = Call(lambda: upload.write(b"chunk"))
    assert stopped.reached.wait(30)
    ending = Call(getattr(upload, end))
    ending.join(0.2)
    assert ending.is_alive()
    stopped.may_go_on.set()
    assert (writing.ended().value, writing.error) == (5, None)
    assert ending.ended().error is None
    with pytest.raises(StoreClosedError):
        upload.write(b"more")
    if end == "close":
        with repository.upload(upload.id) as again:
            assert again.offset == 5
            again.commit(Digest.of(b"chunk"))
    assert os.listdir(store.root / "uploads") == []


@pytest.mark.parametrize("other", ["write", "close", "cancel", "commit"])
def test_what_comes_in_the_middle_of_a_commit_finds_the_session_ended(store, repository, monkeypatch, other):
    upload = repository.start_upload()
    upload.write(b"chunk")
    stopped = Stopped(monkeypatch, "stage")
    committing = Call(lambda: upload.commit(Digest.of(b"chunk")))
    assert stopped.reached.wait(30)
    arguments = {"write": [b"more"], "commit": [Digest.of(b"chunk")]}.get(other, [])
    coming = Call(lambda: getattr(upload, other)(*arguments))
    coming.join(0.2)
    assert coming.is_alive()
    stopped.may_go_on.set()
    assert committing.ended().value.digest == Digest.of(b"chunk")
    assert isinstance(coming.ended().error, StoreClosedError if arguments else type(None))
    assert os.listdir(store.root / "uploads") == []
    assert pool(store.root) == {str(Digest.of(b"chunk")): b"chunk"}
    assert list(repository.uploads()) == []


def test_a_commit_in_the_middle_of_closing_is_refused_and_the_bytes_stay(repository, monkeypatch):
    upload = repository.start_upload()
    upload.write(b"chunk")
    stopped = Stopped(monkeypatch, "sync")
    closing = Call(upload.close)
    assert stopped.reached.wait(30)
    committing = Call(lambda: upload.commit(Digest.of(b"chunk")))
    stopped.may_go_on.set()
    assert closing.ended().error is None
    assert isinstance(committing.ended().error, StoreClosedError)
    with repository.upload(upload.id) as again:
        assert again.commit(Digest.of(b"chunk")).size == 5


@pytest.mark.parametrize("call", ["write", "close", "cancel", "commit"])
def test_a_signal_handler_in_the_middle_of_its_own_thread_s_turn_is_refused(repository, monkeypatch, call):
    refused = []

    def handler(*_):
        with pytest.raises(StoreBusyError, match="this thread") as caught:
            getattr(upload, call)(*{"write": [b"more"], "commit": [Digest.of(b"chunk")]}.get(call, []))
        refused.append(caught.value)

    append = UploadFile.append

    def interrupted(file, chunk):
        os.kill(os.getpid(), signal.SIGUSR1)
        return append(file, chunk)

    before = signal.signal(signal.SIGUSR1, handler)
    try:
        with repository.start_upload() as upload:
            with monkeypatch.context() as patched:
                patched.setattr(UploadFile, "append", interrupted)
                upload.write(b"chunk")
            assert len(refused) == 1
            assert upload.commit(Digest.of(b"chunk")).size == 5
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_an_interrupt_leaves_the_turn_to_others(repository, monkeypatch):
    def interrupted(file, chunk):
        raise KeyboardInterrupt

    with repository.start_upload() as upload:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(UploadFile, "append", interrupted)
            upload.write(b"chunk")
        assert Call(lambda: upload.write(b"chunk")).ended().value == 5


def test_a_child_that_is_forked_in_the_middle_of_a_turn_does_not_wait(repository, monkeypatch):
    upload = repository.start_upload()
    stopped = Stopped(monkeypatch, "append")
    writing = Call(lambda: upload.write(b"chunk"))
    assert stopped.reached.wait(30)
    child = os.fork()
    if child == 0:
        status = 1
        with contextlib.suppress(BaseException):
            upload.close()
            upload.cancel()
            with contextlib.suppress(StoreClosedError):
                upload.write(b"more")
                os._exit(1)
            status = 0
        os._exit(status)
    _, status = os.waitpid(child, 0)
    stopped.may_go_on.set()
    assert writing.ended().value == 5
    assert status == 0
    upload.commit(Digest.of(b"chunk"))


def test_sessions_of_many_threads_that_are_ended_at_any_time_leave_nothing(store, repository):
    calls = {
        "write": lambda upload, content: upload.write(content),
        "commit": lambda upload, content: upload.commit(Digest.of(content)),
        "close": lambda upload, content: upload.close(),
        "cancel": lambda upload, content: upload.cancel(),
    }
    for number in range(40):
        content = b"%d" % number * 5000
        upload = repository.start_upload()
        upload.write(content)
        threads = [
            Call(lambda upload=upload, content=content, call=call: call(upload, content))
            for call in (calls["commit"], list(calls.values())[number % 4], calls["close"])
        ]
        for thread in threads:
            assert isinstance(thread.ended().error, (StoreClosedError, type(None), ValueError)) or (
                type(thread.error).__name__ == "DigestMismatchError" and number % 4 == 0
            )
    for session in list(repository.uploads()):
        with repository.upload(session.id) as upload:
            upload.cancel()
    assert strays(store.root) == []
    assert os.listdir(store.root / "uploads") == []


# --- transactions, likewise -------------------------------------------------------------------------------------------


def test_what_a_thread_brings_after_a_transaction_ended_is_refused_and_leaves_nothing(store):
    with store.transaction() as transaction:
        repository = transaction.repository("app")
        repository.put_blob(b"in time")
    late = Call(lambda: repository.put_blob(b"too late"))
    assert isinstance(late.ended().error, StoreClosedError)
    assert set(pool(store.root)) == {str(Digest.of(b"in time"))}
    assert os.listdir(store.root / "uploads") == []


def test_threads_that_share_a_transaction_commit_all_or_are_refused(store):
    accepted = []

    def bring(number):
        for each in range(50):
            content = b"%d %d" % (number, each)
            repository.put_blob(content)
            accepted.append(str(Digest.of(content)))

    with store.transaction() as transaction:
        repository = transaction.repository("app")
        threads = [Call(lambda number=number: bring(number)) for number in range(4)]
        while len(accepted) < 40:
            time.sleep(0.001)
    for thread in threads:
        assert isinstance(thread.ended().error, (StoreClosedError, type(None)))
    assert set(pool(store.root)) == set(accepted)
    assert os.listdir(store.root / "uploads") == []
