from typing import Any

SCANNERS: dict[str, tuple[type, dict[str, Any], str]]

def make_scanner(name: str, index: Any, options: dict[str, Any]) -> Any: ...
