"""Folders in memory for the tests' databases, where there is room: on a disk each commit waits for it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

_MEMORY, _ROOM = Path("/dev/shm"), 2**30


def quick_folder(prefix: str) -> Path:
    """A new folder, to be removed by whoever asked: in memory, or with other temporary files. Programs may not run there."""
    roomy = os.access(_MEMORY, os.W_OK) and shutil.disk_usage(_MEMORY).free >= _ROOM
    return Path(tempfile.mkdtemp(prefix=prefix, dir=_MEMORY if roomy else None))
