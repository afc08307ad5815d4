from typing import Any

CLASSES: dict[str, tuple[type, dict[str, Any]]]

def make_scanner(name: str, index: Any, options: dict[str, Any], seed: int) -> Any: ...
