"""The bundled routing, slower for inputs whose name says so. It is a PROCESSOR of workers: it runs without pytest."""

from __future__ import annotations

import re
import time
from pathlib import Path

from worker import routing


def process(input_file: Path, output_folder: Path) -> None:
    """Route the hydrograph after the pause in the input's name: `0123-pause-0.5-.csv`."""
    pause = re.search(r"-pause-([\d.]+)-", input_file.name)
    time.sleep(float(pause[1]) if pause else 0)
    routing.process(input_file, output_folder)
