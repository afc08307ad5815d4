"""Cells in workers elsewhere, through any `concurrent.futures.Executor`: a cluster's, a batch system's, a library's.

The executor moves a call and its answer; everything else is here, on top of `submit` alone. What travels is *terms*,
plain values that any version reads, and the cell behind them as bytes. A worker looks at the terms first:

    versions, commit, codecs   must be its own: else it answers "unlike", and the cell is sent out again
    the corpus                 by the hash of its content, from the worker's own cache folder: where it is missing the
                               worker answers "missing", its cells are held back, and the corpus is sent once to that
                               place, into the cache, for all workers there and for later runs

So a cell runs only where its numbers are the ones that they would be here. The client keeps nothing but what waits: a
record is written as it arrives, and what is lost with an executor is run by --resume.

    an executor that is gone (broken, cancelled)         ExecutorLost: nothing more will come
    a cell that the executor lost, with its worker       sent out again, TRIES times in all; then the cell has failed
    MOST_IN_VAIN answers in a row without a record       ExecutorLost: no worker of it can run these cells
"""

from __future__ import annotations

import os
import pickle
import platform
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import BrokenExecutor, CancelledError, Executor, Future
from functools import lru_cache, partial
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from memvirt.environment import collect, source_commit
from memvirt.errors import CorpusError, ExecutorLost, MemvirtError, WorkerDied
from memvirt.experiment.cell import RunContext
from memvirt.experiment.plan import Cell
from memvirt.experiment.pool import Shared, settle
from memvirt.inputs import ClassTable, cache_folder, load
from memvirt.inputs.store import receive
from memvirt.versions import versions

TRIES = 4  # times that a cell is sent out while executors lose it: as many workers as it may take with it
MOST_IN_VAIN = 24
SILENT_S = 30.0  # without a single answer; then a person should know
UNLIKE_WAIT_S = 0.3  # before a worker says that it is unlike: those that can run cells are quicker

Terms = dict[str, Any]  # versions, commit, codecs, corpus (hash), file (of it in a cache folder)
# ("ran", what the call gave, what it raised) · ("missing", place, worker) · ("unlike", place, worker, why)
Answer = tuple[Any, ...]


class Aim(Protocol):
    """What of an executor is known beyond `submit`: dask's lets its caller choose the worker."""

    def at(self, worker: str) -> Mapping[str, Any]:
        """Arguments of `submit` that send a call to this worker."""

    def without(self, workers: set[str]) -> Mapping[str, Any]:
        """Arguments of `submit` that send a call to none of these."""

    def lost(self, error: BaseException) -> str:
        """Why the executor is gone, or gave a cell up for good; "" when it may be tried again."""


class Unaimed:
    """An executor of which nothing more is known."""

    def at(self, worker: str) -> Mapping[str, Any]:
        return {}

    def without(self, workers: set[str]) -> Mapping[str, Any]:
        return {}

    def lost(self, error: BaseException) -> str:
        return ""


def terms_of(shared: Shared, corpus: ClassTable, codecs: Mapping[str, str]) -> Terms:
    """What workers must agree in. `codecs`: name -> route, of those that the cells use."""
    return {
        "versions": dict(shared.versions),
        "commit": shared.commit,
        "codecs": dict(codecs),
        "corpus": corpus.sha256,
        "file": shared.corpus.name,
    }


def routes(cells: Iterable[Cell]) -> dict[str, str]:
    """How the codecs that cells use are reached here."""
    return {codec: route_here(codec) for codec in sorted({cell.host.codec for cell in cells})}


class Elsewhere(Executor):
    """An executor over another one, whose workers run cells on these terms. `tell` is called with what a person should
    know, each once. What becomes of a cell is decided in one thread of its own, to which answers come by a queue."""

    def __init__(
        self,
        inner: Executor,
        shared: Shared,
        terms: Terms,
        *,
        aim: Aim | None = None,
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._inner, self._shared, self._terms, self._tell = inner, shared, terms, tell
        self._aim: Aim = aim or Unaimed()
        self._queue: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._in_vain = 0
        self._unlike: dict[str, str] = {}  # worker -> why
        self._held: dict[str, list[_Sent]] = {}  # place -> what waits until the corpus is there
        self._open: dict[Future[Any], _Sent] = {}
        self._gone = ""  # why nothing more will come
        self._heard = False  # whether a worker has answered, or it was told that none did
        self._decider = threading.Thread(target=self._decide, name="memvirt-elsewhere", daemon=True)
        self._decider.start()

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As an executor does; `call` is run in a worker that agrees, in a thread that is settled for the run."""
        sent = _Sent(pickle.dumps((call, args, kwargs, self._shared.make_host)))
        self._queue.put(partial(self._send, sent))
        return sent.outcome

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """As an executor does; with `cancel_futures` what no worker has begun is given up."""
        if cancel_futures:
            self._queue.put(self._give_up)
        self._queue.put(None)
        self._decider.join(timeout=5)
        self._inner.shutdown(wait=wait)

    def _decide(self) -> None:
        while True:
            try:
                step = self._queue.get(timeout=None if self._heard else SILENT_S)
            except Empty:
                if self._open:
                    self._say_silent()
                continue
            if step is None:
                return
            step()

    def _say_silent(self) -> None:
        self._heard = True
        self._tell(
            f"note: nothing has come back for {SILENT_S:g} s: either cells take so long, or the executor has no worker"
        )

    def _send(self, sent: _Sent) -> None:
        self._open[sent.outcome] = sent
        if self._gone:
            self._lose(self._gone)
            return
        where = self._aim.without(set(self._unlike)) if self._unlike else {}
        try:
            sent.answer = self._inner.submit(take, self._terms, sent.body, **where)
        except Exception as error:  # an executor that is broken already
            self._lose(f"it takes no cell any more: {_said(error)}")
            return
        sent.answer.add_done_callback(lambda done: self._queue.put(partial(self._answered, sent, done)))

    def _answered(self, sent: _Sent, done: Future[Answer]) -> None:
        self._heard = True
        if sent.outcome not in self._open:
            return
        try:
            what, *more = done.result()
        except (BrokenExecutor, CancelledError) as error:
            self._lose(self._aim.lost(error) or f"it is broken: {_said(error)}")
        except Exception as error:
            self._failed(sent, error)
        else:
            become: dict[str, Callable[..., None]]
            become = {"ran": self._ran, "missing": self._missing, "unlike": self._refused}
            become[what](sent, *more)

    def _ran(self, sent: _Sent, value: Any, problem: str) -> None:
        self._in_vain = 0
        if problem:
            self._close(sent, WorkerDied(problem))
        else:
            del self._open[sent.outcome]
            sent.outcome.set_result(value)

    def _close(self, sent: _Sent, error: Exception) -> None:
        del self._open[sent.outcome]
        sent.outcome.set_exception(error)

    def _failed(self, sent: _Sent, error: Exception) -> None:
        """The executor lost the cell, or could not run the call at all."""
        sent.tries += 1
        why = self._aim.lost(error)
        if why or sent.tries >= TRIES:
            self._close(sent, WorkerDied(why or f"its executor lost it {sent.tries} times: {_said(error)}"))
        elif self._may_go_on(_said(error)):
            self._send(sent)

    def _refused(self, sent: _Sent, place: str, worker: str, why: str) -> None:
        if worker not in self._unlike:
            self._unlike[worker] = why
            self._tell(f"note: no cell is run by the worker {worker} on {place}: {why}")
        if self._may_go_on(why):
            self._send(sent)

    def _may_go_on(self, why: str) -> bool:
        """Note an answer without a record."""
        self._in_vain += 1
        if self._in_vain >= MOST_IN_VAIN:
            self._lose(f"none of its workers can run these cells: {why}")
        return not self._gone

    def _missing(self, sent: _Sent, place: str, worker: str) -> None:
        held = self._held.setdefault(place, [])
        held.append(sent)
        if len(held) > 1:
            return
        try:
            file = self._shared.corpus.read_bytes()
            kept = self._inner.submit(take_corpus, self._terms, file, **self._aim.at(worker))
        except Exception as error:
            self._lose(f"the corpus cannot be sent: {_said(error)}")
            return
        kept.add_done_callback(lambda done: self._queue.put(partial(self._sent_corpus, place, done)))

    def _sent_corpus(self, place: str, done: Future[str]) -> None:
        held = self._held.pop(place, [])
        try:
            problem = done.result()
        except (
            Exception,
            CancelledError,
        ) as error:  # with its worker, say: the worker that takes the cells next will ask
            problem = _said(error)
        if not problem or self._may_go_on(problem):
            for sent in held:
                self._send(sent)

    def _give_up(self) -> None:
        for sent in self._open.values():
            if sent.answer is not None:
                sent.answer.cancel()
        self._open.clear()

    def _lose(self, why: str) -> None:
        """Nothing more will come."""
        self._gone = why
        while self._open:
            outcome, _ = self._open.popitem()
            outcome.set_exception(ExecutorLost(f"the executor is lost: {why}"))


class _Sent:
    """A cell on its way."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.outcome: Future[Any] = Future()
        self.answer: Future[Answer] | None = None
        self.tries = 0


def _said(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


# What follows runs in workers.


def take(terms: Terms, body: bytes) -> Answer:
    """Run a call if this worker agrees with the terms and has the corpus."""
    place = f"{platform.node()}:{cache_folder()}"
    if why := disagreement(terms):
        time.sleep(UNLIKE_WAIT_S)
        return "unlike", platform.node(), worker_name(), why
    path = cache_folder() / terms["file"]
    if not os.path.exists(path):
        return "missing", place, worker_name()
    try:
        stamp = path.stat()
        corpus = _corpus(path, terms["corpus"], (stamp.st_ino, stamp.st_mtime_ns, stamp.st_size))
    except (CorpusError, OSError):
        return "missing", place, worker_name()
    call, args, kwargs, make_host = pickle.loads(body)
    settle(RunContext(corpus, terms["versions"], terms["commit"], _environment(), make_host))
    try:
        return "ran", call(*args, **kwargs), ""
    except Exception as error:  # a bug; an executor would take it for its own trouble
        return "ran", None, f"its worker raised {_said(error)}"


def disagreement(terms: Terms) -> str:
    """Why a cell must not run here, in the words of the first difference; "" when it may."""
    own = _own_versions()
    for name, wanted in terms["versions"].items():
        if own.get(name, "absent") != wanted:
            return f"it has {name} {own.get(name, 'absent')}, this run {wanted}"
    commit = source_commit_here()
    if commit and terms["commit"] and commit != terms["commit"]:
        return f"its source is at {commit[:12]}, this run's at {terms['commit'][:12]}"
    for codec, wanted in terms["codecs"].items():
        if (route := route_here(codec)) != wanted:
            return f"its codec {codec} is {route}, this run's {wanted}"
    return ""


def take_corpus(terms: Terms, file: bytes) -> str:
    """Put the corpus into this worker's cache folder; why it could not be, or ""."""
    try:
        receive(file, terms["corpus"], cache_folder() / terms["file"])
    except (MemvirtError, OSError) as error:
        return f"{platform.node()}: {error}"
    return ""


def worker_name() -> str:
    """What the executor calls this worker: dask's address, or else host and process."""
    if "distributed.worker" in sys.modules:
        from distributed import get_worker

        try:
            return str(get_worker().address)
        except ValueError:
            pass
    return f"{platform.node()}:{os.getpid()}"


def route_here(codec: str) -> str:
    """How the engine reaches a codec here; "absent" where it cannot."""
    from memvirt.engine.content.codec import open_codec

    try:
        return str(open_codec(codec).route)
    except MemvirtError:
        return "absent"


@lru_cache(maxsize=1)
def source_commit_here() -> str:
    """The commit of the source tree that this worker runs from."""
    return source_commit()


@lru_cache(maxsize=1)
def _own_versions() -> dict[str, str]:
    return versions()


@lru_cache(maxsize=1)
def _environment() -> dict[str, Any]:
    return collect()


@lru_cache(maxsize=2)
def _corpus(path: Path, sha256: str, stamp: tuple[int, ...]) -> ClassTable:
    """The corpus in a file, mapped and verified; once for each state of the file (`stamp`)."""
    found = load(path, mapped=True)
    if found.sha256 != sha256:
        raise CorpusError(f"{path}: is another corpus")
    return found
