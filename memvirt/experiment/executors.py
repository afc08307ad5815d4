"""`--executor`: the executor that a text names.

    dask://HOST:PORT     the workers of a running dask scheduler (package distributed, extra `cluster`)
    module:callable      whatever concurrent.futures.Executor the callable gives when it is called without arguments

Of dask more is used than `submit`: a worker can be named, so that the corpus goes where it is missing and no cell to a
worker that is unlike. What a lost worker had begun the scheduler gives to another by itself. A lost scheduler cancels
all futures of its client at once.
"""

from __future__ import annotations

import errno
import importlib
import logging
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import CancelledError, Executor, Future
from typing import Any
from uuid import uuid4

from memvirt.errors import ConfigError
from memvirt.experiment.elsewhere import Aim, Unaimed

CONNECT_S = 8  # a scheduler that is not there is said within 10 s
DASK = re.compile(r"dask://(?P<place>(\[[0-9A-Fa-f:.]+]|[^\[\]:/\s]+):[0-9]{1,5})\Z")
FORMS = "give dask://HOST:PORT, or module:callable that makes a concurrent.futures.Executor"


def open_executor(text: str, tell: Callable[[str], None] = lambda text: None) -> tuple[Executor, Aim]:
    """The executor that a text names, and how calls are aimed in it; the caller shuts it down.

    ConfigError: not of a form that is known, does not import, makes no executor, or does not answer within CONNECT_S.
    """
    if text.startswith("dask:"):
        return _dask(text, _place(text), tell)
    return _made(text), Unaimed()


def require(text: str) -> None:
    """ConfigError for what can be told of a text before anything is called or connected to."""
    if text.startswith("dask:"):
        _place(text)
    else:
        _maker(text)


def _place(text: str) -> str:
    found = DASK.match(text)
    if not found:
        raise ConfigError(f"--executor {text}: names no place; write dask://HOST:PORT, as in dask://10.0.0.1:8786")
    return found["place"]


def _maker(text: str) -> Callable[[], Any]:
    """The callable of module:callable. The module may lie in the current folder."""
    module, colon, name = text.partition(":")
    if not colon or not module or not name or not all(part.isidentifier() for part in [*module.split("."), name]):
        raise ConfigError(f"--executor {text}: {FORMS}")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        return getattr(importlib.import_module(module), name)  # type: ignore[no-any-return]
    except Exception as error:  # a module may raise whatever it likes
        raise ConfigError(f"--executor {text}: cannot be imported: {type(error).__name__}: {error}") from None


def _made(text: str) -> Executor:
    """What module:callable makes."""
    make, name = _maker(text), text.partition(":")[2]
    try:
        executor = make()
    except Exception as error:
        raise ConfigError(f"--executor {text}: {name}() raised {type(error).__name__}: {error}") from None
    if not callable(getattr(executor, "submit", None)) or not callable(getattr(executor, "shutdown", None)):
        kind = type(executor).__name__
        raise ConfigError(f"--executor {text}: {name}() gave a {kind}, which is no concurrent.futures.Executor")
    return executor  # type: ignore[no-any-return]


def _dask(text: str, place: str, tell: Callable[[str], None]) -> tuple[Executor, Aim]:
    try:
        import dask
        import distributed
    except ImportError:
        raise ConfigError(f"--executor {text}: needs the package distributed: pip install 'memvirt[cluster]'") from None
    for name in [name for name in logging.root.manager.loggerDict if name.startswith("distributed")]:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)  # of a lost scheduler we say one sentence, it fifty
    dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TiB"})  # a corpus that is sent once
    try:
        _require_answer(place)
        make: Any = distributed.Client  # has no types
        client = make(f"tcp://{place}", timeout=CONNECT_S / 2, set_as_default=False, name="memvirt")
        workers = client.scheduler_info(n_workers=-1)["workers"]
    except (OSError, ValueError, OverflowError) as error:
        why = f": {error.strerror}" if isinstance(error, OSError) and error.strerror else ""
        raise ConfigError(
            f"--executor {text}: no dask scheduler answers at {place}{why}; start one with 'dask scheduler'"
        ) from None
    if not workers:
        tell(f"note: the scheduler at {place} has no worker yet; cells wait for the first")
    executor = DaskExecutor(client)
    return executor, executor


def _require_answer(place: str) -> None:
    """OSError unless the other side speaks first, as a scheduler does: a client would wait for that for ever."""
    host, _, port = place.rpartition(":")
    with socket.create_connection((host.strip("[]"), int(port)), CONNECT_S / 2) as there:
        if not there.recv(1):
            raise ConnectionError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))


class DaskExecutor(Executor):
    """The workers of a dask scheduler, by its own executor; also the aim of its calls."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._inner = client.get_executor(pure=False)
        self._group = f"memvirt-{uuid4().hex}"  # one group: the scheduler holds back what workers have no thread for
        self._calls = 0

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """As an executor does; `workers` may name those that are to be preferred."""
        self._calls += 1
        future: Future[Any] = self._inner.submit(call, *args, key=(self._group, self._calls), **kwargs)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the scheduler: what it has of ours it forgets."""
        self._client.close(timeout=2)

    def at(self, worker: str) -> Mapping[str, Any]:
        """To this worker, and to another if it is gone."""
        return {"workers": [worker], "allow_other_workers": True}

    def without(self, workers: set[str]) -> Mapping[str, Any]:
        """To others, if there are any."""
        known = set(self._client.scheduler_info(n_workers=-1)["workers"])
        return {"workers": sorted(known - workers), "allow_other_workers": True} if known - workers else {}

    def lost(self, error: BaseException) -> str:
        """Cancelled: by a scheduler that is gone. KilledWorker: after as many workers as the scheduler allows."""
        if isinstance(error, CancelledError):
            return "its scheduler does not answer any more"
        if type(error).__name__ == "KilledWorker":
            last = getattr(getattr(error, "last_worker", None), "address", "unknown")
            return f"every worker that took it was lost, the last at {last}"
        return ""
