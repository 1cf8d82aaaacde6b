"""`python -m worker.call MODULE:FUNCTION INPUT OUTPUT`: the process in which a PROCESSOR's function runs.

A process can be killed when its time is over, whatever it does; a thread cannot. It also frees all memory of a job.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def main(name: str, input_file: str, output_folder: str) -> None:
    """Call `function(input file, output folder)`. An exception is the process's failure; stderr has its traceback."""
    module, _, function = name.partition(":")
    getattr(importlib.import_module(module), function)(Path(input_file), Path(output_folder))


if __name__ == "__main__":
    main(*sys.argv[1:])
