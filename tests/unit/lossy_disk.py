"""A disk on which only what was synced survives a power failure."""

from __future__ import annotations

import os
from pathlib import Path

from refinerctl.files import Disk


class LossyDisk(Disk):
    """Files exist under the names that their folder had when it was synced, with the content that was synced."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contents: dict[int, bytes] = {}
        self._names: dict[str, int] = {}
        for path in folder.iterdir():
            self._contents[path.stat().st_ino] = path.read_bytes()
        self.sync_folder(folder)

    def sync(self, descriptor: int) -> None:
        super().sync(descriptor)
        self._contents[os.fstat(descriptor).st_ino] = Path(f"/proc/self/fd/{descriptor}").read_bytes()

    def sync_folder(self, folder: Path) -> None:
        super().sync_folder(folder)
        if folder == self._folder:
            self._names = {path.name: path.stat().st_ino for path in folder.iterdir()}

    def after_power_failure(self) -> dict[str, bytes]:
        return {name: self._contents.get(inode, b"") for name, inode in self._names.items()}
