"""Suites, presets and cost models that come with memvirt: TOML files, known by name, each with a line on itself."""

from pathlib import Path
from typing import NamedTuple

from memvirt.untrusted import toml_table


class Shipped(NamedTuple):
    """A folder of files NAME.toml."""

    folder: Path
    key: str  # of the line

    def names(self) -> list[str]:
        """All there are."""
        return sorted(path.stem for path in self.folder.glob("*.toml"))

    def file(self, name: str) -> Path:
        """The file of a name, whether or not it exists."""
        return self.folder / f"{name}.toml"

    def lines(self) -> dict[str, str]:
        """Name -> what the file says of itself in one line."""
        return {name: str(toml_table(self.file(name).read_text("utf-8"))[self.key]) for name in self.names()}


HERE = Path(__file__).parent
SUITES = Shipped(HERE / "experiment" / "suites", "title")
COSTS = Shipped(HERE / "settings" / "presets" / "costs", "description")
PRESETS = Shipped(HERE / "settings" / "presets", "description")
