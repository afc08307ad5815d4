"""Files that a user names: what a record says of them is their content, not their place."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from memvirt.errors import ConfigError
from memvirt.untrusted import require_plain


def file_sha256(path: str | os.PathLike[str]) -> str:
    """Hex SHA-256 of a file's content; ConfigError when it cannot be read."""
    try:
        require_plain(path)
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror} (looked in {Path.cwd()})") from None
