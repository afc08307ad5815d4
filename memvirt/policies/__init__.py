"""Deciders by name: pure rules that look at a snapshot of the host and say what should change.

`build("proxmox", {"max_step_pages": "200MiB"})` makes one of the built-in ones; `build("mine.py:Fair", {})` makes an
instance of a user's class. Options are the keyword arguments of the class; those ending in _pages and _ns may be
written as sizes and times. Their types say which values they take: int (no negative one), Positive, Percent.

A built-in decider is a class in a file of this folder and a line in memvirt.names.DECIDERS.
"""

import importlib.util
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from memvirt.errors import ConfigError, absence
from memvirt.names import DECIDERS
from memvirt.policies.asking import USERS_MODULE, Asked, guarded, interval_of
from memvirt.policies.base import Bounds, ColdAge, Decider, Percent, Positive, Snapshot, Targets, VmView
from memvirt.units import parse_pages, parse_time, suggest
from memvirt.untrusted import require_runnable

__all__ = [
    "ColdAge",
    "Decider",
    "Percent",
    "Positive",
    "Snapshot",
    "Targets",
    "VmView",
    "build",
    "file_of",
    "load",
    "options_of",
    "parameters_of",
    "ranges_of",
]

FOLDER = "memvirt.policies"


def load(name: str) -> type[Decider]:
    """The class a decider's name stands for: a built-in name, or "path/file.py:ClassName".

    Raises ConfigError when there is none, when the file cannot be run, or when the class has no decide(snapshot).
    """
    if name in DECIDERS:
        return cast(type[Decider], DECIDERS[name].load(FOLDER))
    if ".py:" in name:
        return _load_file(*name.rsplit(":", 1))
    known = ", ".join(DECIDERS)
    raise ConfigError(f"unknown decider '{name}'{suggest(name, list(DECIDERS))} (known: {known}; or file.py:ClassName)")


def build(name: str, options: Mapping[str, object]) -> Decider:
    """An instance of the named decider; ConfigError names every option that does not fit."""
    cls = load(name)
    arguments = _arguments(name, cls, options)
    with guarded(f"decider '{name}' cannot be made", _whole(name.rpartition(":")[0]), ConfigError):
        decider = cls(**arguments)
    interval_of(decider)
    if file_of(name) is not None:
        Asked(decider)  # what it says of itself is looked at before anything runs
    return decider


def options_of(name: str, given: Mapping[str, object]) -> dict[str, object]:
    """Every option of the named decider by value: those given, and the defaults of the others. Of a user's class,
    defaults that are no number, text or truth value are left out: its file says what they are."""
    cls = load(name)
    every = {key: value.default for key, value in _parameters(cls).items()}
    every |= _arguments(name, cls, given)
    return {key: value for key, value in every.items() if isinstance(value, (int, str))}


def parameters_of(name: str) -> frozenset[str]:
    """The names of all options of the named decider."""
    return frozenset(_parameters(load(name)))


def ranges_of(name: str) -> dict[str, str]:
    """Which numbers each option of the named decider takes, in words, where its type says so."""
    found = {}
    for key, parameter in _parameters(load(name)).items():
        for bounds in getattr(parameter.annotation, "__metadata__", ()):
            if isinstance(bounds, Bounds):
                found[key] = f"{bounds.low} and more" if bounds.high is None else f"{bounds.low} to {bounds.high}"
    return found


def file_of(name: str) -> Path | None:
    """The file that a decider is read from; None for a built-in one."""
    return None if name in DECIDERS else Path(name.rsplit(":", 1)[0])


def _whole(path: str) -> str:
    """A user's file as its code knows it; "" for none."""
    return str(Path(path).absolute()) if path else ""


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The options of a decider: the keyword arguments of its class, none where Python does not know them."""
    try:
        found = inspect.signature(cls).parameters
    except (TypeError, ValueError):
        return {}
    return {key: value for key, value in found.items() if value.kind != value.VAR_KEYWORD}


def _arguments(name: str, cls: type[Decider], options: Mapping[str, object]) -> dict[str, object]:
    """The options as the class takes them; ConfigError with all that do not fit."""
    parameters = _parameters(cls)
    problems = []
    arguments: dict[str, object] = {}
    for key, value in options.items():
        if key not in parameters:
            problems.append(f"decider '{name}' has no option '{key}'{suggest(key, list(parameters))}")
            continue
        try:
            arguments[key] = _option(value, parameters[key])
        except ConfigError as error:
            problems.append(f"option '{key}' of decider '{name}': {error}")
    if problems:
        raise ConfigError("; ".join(problems))
    return arguments


def _option(value: object, parameter: inspect.Parameter) -> object:
    """The value in the option's unit. Options of the built-in deciders are integers; a user's class takes anything."""
    key, default = parameter.name, parameter.default
    if isinstance(default, bool) or not isinstance(default, int):
        return value
    if key.endswith("_pages") and isinstance(value, str):
        return parse_pages(value)
    if key.endswith("_ns") and isinstance(value, str):
        value = parse_time(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{value!r} is not an integer; the default is {default}")
    if value < 0:
        raise ConfigError(f"{value} is negative; the default is {default}")
    for bounds in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(bounds, Bounds) and (wrong := bounds.problem(value)):
            raise ConfigError(f"{wrong}; the default is {default}")
    return value


def _load_file(path: str, class_name: str) -> type[Decider]:
    """The named class of a user's file, run as a module of its own."""
    file = Path(path)
    if why := absence(file):
        raise ConfigError(f"decider file '{path}' {why} (looked in {Path.cwd()})")
    try:
        require_runnable(file)
    except OSError as error:
        raise ConfigError(f"decider file '{path}' {error.strerror}") from None
    spec = importlib.util.spec_from_file_location(f"{USERS_MODULE}{file.stem}", file)
    if spec is None or spec.loader is None:
        raise ConfigError(f"decider file '{path}' is not a Python file")
    module = importlib.util.module_from_spec(spec)
    with guarded(f"decider file '{path}' fails to run", _whole(path), ConfigError):
        spec.loader.exec_module(module)
    classes = {name: value for name, value in vars(module).items() if inspect.isclass(value)}
    cls = classes.get(class_name)
    if cls is None:
        own = [name for name, value in classes.items() if value.__module__ == module.__name__]
        raise ConfigError(
            f"decider file '{path}' has no class '{class_name}'{suggest(class_name, own)} "
            f"(it has: {', '.join(own) or 'none'})"
        )
    if not callable(getattr(cls, "decide", None)):
        raise ConfigError(f"class '{class_name}' in '{path}' has no method decide(snapshot) -> Targets")
    _require_argument(cls, f"class '{class_name}' in '{path}'")
    if "interval_ns" not in {*dir(cls), *_parameters(cls), *getattr(cls, "__annotations__", {})}:
        raise ConfigError(f"class '{class_name}' in '{path}' does not say how often to ask it: set interval_ns")
    return cast(type[Decider], cls)


def _require_argument(cls: type, what: str) -> None:
    """ConfigError for a decide that cannot be called with one snapshot, or would answer with a coroutine."""
    rule = inspect.getattr_static(cls, "decide")
    if not inspect.isfunction(rule):
        return  # whatever it is, the first call will show it
    if inspect.iscoroutinefunction(rule) or inspect.isgeneratorfunction(rule) or inspect.isasyncgenfunction(rule):
        raise ConfigError(f"{what}: decide is a coroutine or generator; write a plain method that returns Targets")
    try:
        inspect.signature(rule).bind(None, None)
    except TypeError as error:
        raise ConfigError(f"{what}: decide(self, snapshot) is needed: {error}") from None
