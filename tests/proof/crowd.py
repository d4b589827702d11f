"""A crowd of processes at one store, forked by one that has loaded everything, of which any may be killed or stopped at
any moment, and is followed by another one."""

from __future__ import annotations

import fcntl
import os
import signal
import time
import traceback
from typing import TYPE_CHECKING

from invariants import check

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Work = Callable[[int], None]


class Crowd:
    """Processes, each of which does its work until it is killed, or told to end in a way of its own."""

    def __init__(self, root: Path) -> None:
        """``root`` is the store; what workers die of is written beside it."""
        self._root = root
        self._started = 0
        self._works: dict[int, Work] = {}

    def start(self, work: Work) -> None:
        """Fork a worker, which is given a number that no other one has."""
        self._started += 1
        child = os.fork()
        if child:
            self._works[child] = work
            return
        status = 1
        try:
            work(self._started)
            status = 0
        except BaseException:
            self.died()
        finally:
            os._exit(status)

    def died(self) -> None:
        """Write down what a worker dies of, in its own process."""
        self._error(os.getpid()).write_text(traceback.format_exc())

    def _error(self, worker: int) -> Path:
        return self._root.parent / f"error-{worker}"

    def errors(self) -> Iterator[str]:
        """What workers and their children died of, other than by being killed, each once."""
        for path in sorted(self._root.parent.glob("error-*")):
            yield path.read_text()
            path.unlink()

    def kill(self, rng: random.Random) -> None:
        """One of them, wherever it is."""
        os.kill(rng.choice(list(self._works)), signal.SIGKILL)

    def stop(self, rng: random.Random, seconds: float) -> None:
        """One of them, for so long."""
        victim = rng.choice(list(self._works))
        os.kill(victim, signal.SIGSTOP)
        time.sleep(seconds)
        os.kill(victim, signal.SIGCONT)

    def replace(self) -> None:
        """Start another worker for each that has ended."""
        for worker, work in list(self._works.items()):
            if os.waitpid(worker, os.WNOHANG)[0]:
                del self._works[worker]
                self.start(work)

    def end(self, *, kill: bool) -> None:
        """Wait for all of them, which are killed unless they end by themselves."""
        for worker in self._works:
            if kill:
                os.kill(worker, signal.SIGKILL)
            os.waitpid(worker, 0)
        self._works.clear()

    def look(self) -> list[str]:
        """What is wrong with the store, while nobody writes."""
        with open(self._root / "write.lock", "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                return check(self._root, hashes=True, idle=False)
            except FileNotFoundError as error:
                return [f"{error.filename} went while nobody else may take anything away"]
