"""The ready line as a file, by which commands without credentials find the sandbox of their folder.

It belongs to the sandbox that came first, for as long as that one lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sync_pipeline.sandbox.options import SandboxError


@contextmanager
def published(path: Path, line: str, *, begins_anew: bool) -> Iterator[None]:
    """Keep `line` in the file until the block ends, and tell the user what else is or was there.

    `begins_anew`: nothing of an earlier sandbox lives on in this one. Raises SandboxError.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        known = lock.exists()
        held = os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SandboxError(f"--ready-file {path}: {error.strerror}. Name a file that can be written.") from None
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            _tell(
                f"{path} stays with the sandbox that was started here before{_address(path)}: commands without "
                "credentials go on using that one. Start this one in another folder to have them find it."
            )
            yield
            return
        if known and begins_anew:
            _tell(
                f"this one begins anew: what the files in {path.parent} remember of an earlier sandbox is no longer "
                "true. Remove that folder, or start with --keep FILE, so that a sandbox goes on where it was."
            )
        _write(path, line)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
    finally:
        os.close(held)


def _write(path: Path, line: str) -> None:
    """It carries the sandbox's keys, so it is the user's alone."""
    try:
        beside = path.with_name(f"{path.name}.{os.getpid()}.new")
        beside.touch(mode=0o600)
        beside.write_text(line, encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise SandboxError(f"--ready-file {path}: {error.strerror}. Name a file that can be written.") from None


def _address(path: Path) -> str:
    with contextlib.suppress(OSError, ValueError, KeyError):
        return f" ({json.loads(path.read_text(encoding='utf-8'))['control_url']})"
    return ""


def _tell(message: str) -> None:
    sys.stderr.write(f"sandbox: {message}\n")
