"""Adds to setup.cfg that the wheel has the files of a new project, which `refinerctl init` writes."""

import shutil
import sys
from pathlib import Path

from setuptools import Command, setup
from setuptools.command.build import build

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))

from refinerctl.setup.bundle import PACKED, read_repository, sources


class BuildProject(Command):
    """A step of `build`. In an editable installation `init` reads the repository itself."""

    description = "pack the files of a new project"
    user_options: list[tuple[str, str | None, str]] = []  # noqa: RUF012 - setuptools' interface
    editable_mode = False

    def initialize_options(self) -> None:
        self.build_lib = None

    def finalize_options(self) -> None:
        self.set_undefined_options("build_py", ("build_lib", "build_lib"))

    def run(self) -> None:
        if self.editable_mode:
            return
        shutil.rmtree(self._target, ignore_errors=True)  # of an earlier build
        for name, content in read_repository(ROOT).items():
            path = self._target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)

    def get_source_files(self) -> list[str]:
        """What a source distribution needs for it."""
        return [str(path.relative_to(ROOT)) for path in sources(ROOT).values()]

    def get_outputs(self) -> list[str]:
        return [] if self.editable_mode else [str(self._target / name) for name in sources(ROOT)]

    def get_output_mapping(self) -> dict[str, str]:
        return {}

    @property
    def _target(self) -> Path:
        return Path(self.build_lib, PACKED.relative_to(ROOT))


build.sub_commands.append(("build_project", None))
setup(cmdclass={"build_project": BuildProject})
