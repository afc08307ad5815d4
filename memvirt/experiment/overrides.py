"""`--set KEY=VALUE` before any preset sees it: what is no setting of a host, and where it belongs instead.

An override goes to every column, one of options to those that have them. So what is wrong with it whatever the column is
said once, about the words that were typed, and the columns judge the rest.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from memvirt.errors import ConfigError
from memvirt.experiment.fleet_spec import AgingSpec, FleetSpec
from memvirt.experiment.pace import Pace
from memvirt.experiment.scenario import Scenario
from memvirt.settings.config import HostConfig
from memvirt.settings.fields import Model
from memvirt.settings.presets import VmSettings, as_typed, parse_override
from memvirt.settings.vm_config import GuestOptions
from memvirt.units import suggest

# tables of a suite's scenario
_SUITES: Mapping[str, type[Model]] = {"fleet": FleetSpec, "pace": Pace, "aging": AgingSpec}


def sort_out(overrides: Sequence[str], taken: Collection[str]) -> tuple[list[str], list[str]]:
    """(the overrides that columns can judge, what is wrong with each other one). `taken`: the settings of hosts that the
    cells of the suite have."""
    usable, problems = [], []
    places = Counter(_key(text) for text in overrides)
    for text in dict.fromkeys(overrides):
        problem = _problem(text, taken)
        if not problem and places[_key(text)] > 1:
            problem = f"{_key(text)} is set {'twice' if places[_key(text)] == 2 else 'several times'}; keep one of them"
        if problem:
            problems.append(f"{as_typed(text)}: {problem}")
        else:
            usable.append(text)
    return usable, problems


def _key(text: str) -> str:
    return ".".join(part.strip() for part in text.partition("=")[0].split("."))


def _problem(text: str, taken: Collection[str]) -> str:
    """Why no column can take it; "" when one may."""
    try:
        place, _ = parse_override(text)
    except ConfigError as error:
        return str(error).removeprefix(f"{as_typed(text)}: ")
    key, value = _key(text), text.partition("=")[2]
    first, rest = str(place[0]), key.partition(".")[2]
    if first == "host" and rest:
        return _problem(f"{rest}={value}", taken) or f"write --set {rest}={value}"
    if first == "seed":
        return f"write --seed {value}"
    if (first == "guest" and rest) or (first not in HostConfig.model_fields and first in GuestOptions.model_fields):
        return f"is a guest's; write --set vm.guest.{rest or key}={value}, or put it under [vm.guest] of a preset"
    if first in VmSettings.model_fields:
        return f"is a VM's; write --set vm.{key}={value}, or put it under [vm] of a preset"
    if first == "costs" and rest:
        return (
            "is one number of a cost model, and a model is whole: change it in a file, as 'memvirt calibrate -o FILE' "
            "writes one, and give --set costs=FILE"
        )
    table = next((name for name, model in _SUITES.items() if first == name or first in model.model_fields), "")
    table = first if rest and first in Scenario.model_fields else table  # [scenarios.warm_up], which pace has as a time
    if table and first not in HostConfig.model_fields:
        return f"belongs to a scenario; put it under [scenarios.{table}] of a suite of your own"
    if first != "vm" and first not in HostConfig.model_fields:
        known = list(HostConfig.model_fields)
        return f"no setting is called '{first}'{suggest(first, known)}; 'memvirt list settings' names all"
    if first not in {*taken, "vm" if "memory" in taken else ""}:
        return f"does nothing in a suite of traces, whose cells have no more of a host than {', '.join(sorted(taken))}"
    return ""
