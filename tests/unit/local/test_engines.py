"""Which folder, handler and runtime a function has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from refinerctl.aws.lambda_ import FunctionConfiguration
from refinerctl.errors import NotFoundError, RefinerctlError, UsageError
from refinerctl.images import BuildContext
from refinerctl.local.engines import context_of, handler_of, runtime_of


def function(**given: Any) -> FunctionConfiguration:
    values: dict[str, Any] = {
        "name": "f",
        "arn": "arn:f",
        "version": "$LATEST",
        "image_uri": "team/refiner",
        "memory_mb": 256,
        "timeout_s": 3,
        "environment": {},
    }
    return FunctionConfiguration(**(values | given))


class TestContext:
    def test_a_function_runs_the_folder_of_its_repository(self, tmp_path: Path) -> None:
        contexts = {"team/other": BuildContext(tmp_path / "a"), "team/refiner": BuildContext(tmp_path / "b")}
        uri = "123456789012.dkr.ecr.us-east-1.amazonaws.com/team/refiner@sha256:" + "0" * 64
        assert context_of(uri, contexts) == ("team/refiner", BuildContext(tmp_path / "b"))

    def test_another_projects_image_has_a_hint_with_the_setting(self, tmp_path: Path) -> None:
        with pytest.raises(NotFoundError, match="not an image of this project") as caught:
            context_of("ghcr.io/their/image:v1", {"team/refiner": BuildContext(tmp_path)})
        assert 'repository = "their/image"' in str(caught.value.hint)

    def test_an_empty_image_uri_is_refused(self) -> None:
        with pytest.raises(UsageError):
            context_of("", {})


class TestHandler:
    @pytest.mark.parametrize(
        ("dockerfile", "handler"),
        [
            ('FROM x\nCMD ["index.handler"]\n', "index.handler"),
            ('CMD ["first.handler"]\nCMD [ "src/last.handler" ]', "src/last.handler"),
            ('# CMD ["not.this"]\n  CMD ["this.one", "and more"]', "this.one"),
        ],
    )
    def test_the_handler_is_the_last_cmd_of_the_dockerfile(self, tmp_path: Path, dockerfile: str, handler: str) -> None:
        (tmp_path / "Dockerfile").write_text(dockerfile)
        assert handler_of(function(), BuildContext(tmp_path)) == handler

    def test_a_dockerfile_may_be_anywhere_in_the_context(self, tmp_path: Path) -> None:
        (tmp_path / "producer").mkdir()
        (tmp_path / "producer" / "Dockerfile").write_text('CMD ["producer.handler.handler"]')
        context = BuildContext(tmp_path, "producer/Dockerfile")
        assert handler_of(function(), context) == "producer.handler.handler"

    def test_the_functions_own_command_has_precedence(self, tmp_path: Path) -> None:
        (tmp_path / "Dockerfile").write_text('CMD ["index.handler"]')
        assert handler_of(function(command=("other.handler",)), BuildContext(tmp_path)) == "other.handler"

    @pytest.mark.parametrize("dockerfile", [None, "", "FROM x", "CMD index.handler", "CMD []", "CMD ['a']"])
    def test_without_a_cmd_the_error_names_the_dockerfile(self, tmp_path: Path, dockerfile: str | None) -> None:
        if dockerfile is not None:
            (tmp_path / "Dockerfile").write_text(dockerfile)
        with pytest.raises(RefinerctlError, match="Dockerfile has no CMD"):
            handler_of(function(), BuildContext(tmp_path))

    def test_this_repositorys_image_has_a_handler_and_a_runtime(self, root: Path) -> None:
        context = BuildContext(root / "images" / "refiner")
        assert handler_of(function(), context) == "index.handler"
        assert runtime_of(context).name == "Node.js"


class TestRuntime:
    @pytest.mark.parametrize(
        ("files", "runtime"),
        [
            ({"package.json": "{}"}, "Node.js"),
            ({"requirements.txt": ""}, "Python"),
            ({"Dockerfile": "FROM public.ecr.aws/lambda/python:3.12"}, "Python"),
            ({"Dockerfile": "ARG BASE=public.ecr.aws/lambda/nodejs:22\nFROM ${BASE}"}, "Node.js"),
            ({"Dockerfile": "FROM public.ecr.aws/lambda/python:3.12", "package.json": "{}"}, "Python"),
            ({"Dockerfile": "FROM scratch\n# not public.ecr.aws/lambda/python", "package.json": "{}"}, "Node.js"),
        ],
    )
    def test_the_base_image_names_it_else_a_file(self, tmp_path: Path, files: dict[str, str], runtime: str) -> None:
        for name, content in files.items():
            (tmp_path / name).write_text(content)
        assert runtime_of(BuildContext(tmp_path)).name == runtime

    def test_a_file_beside_the_dockerfile_names_it(self, tmp_path: Path) -> None:
        (tmp_path / "package.json").write_text("{}")
        (tmp_path / "producer").mkdir()
        (tmp_path / "producer" / "requirements.txt").write_text("")
        assert runtime_of(BuildContext(tmp_path, "producer/Dockerfile")).name == "Python"

    def test_an_unknown_runtime_has_a_hint_to_use_docker(self, tmp_path: Path) -> None:
        with pytest.raises(RefinerctlError, match=r"no package\.json and no requirements\.txt") as caught:
            runtime_of(BuildContext(tmp_path))
        assert "--engine docker" in str(caught.value.hint)
