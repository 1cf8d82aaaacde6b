"""`refinerctl init`: a new project, one of an older version, and everything that is in the way."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from refinerctl import __version__
from refinerctl.errors import RefinerctlError
from refinerctl.setup.origin import ProjectOrigin, find_changes, write_project
from tests.command import Command, spawn

NOBODY = 65534
RECORD = ".refinerctl-init.json"
OWN_README = "# Our pipeline\n"


def files_of(project: Path) -> dict[str, bytes]:
    return {str(path.relative_to(project)): path.read_bytes() for path in project.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    done = spawn("init", "my-pipeline", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "my-pipeline"


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "my-pipeline")


def make_older(project: Path, **older: str | None) -> None:
    """As if version 0.0.1 had written these files with this content, or had not written them."""
    record = json.loads((project / RECORD).read_text())
    record["version"] = "0.0.1"
    for name, text in older.items():
        path = project / name
        record["files"].pop(name, None)
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_text(text)
            record["files"][name] = hashlib.sha256(text.encode()).hexdigest()
    (project / RECORD).write_text(json.dumps(record))


def test_a_new_project_records_its_version_and_hashes_and_works(project: Path, refinerctl: Command) -> None:
    files = files_of(project)
    record = json.loads(files.pop(RECORD))

    assert record["version"] == __version__
    assert record["files"] == {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert {"refinerctl.toml", ".gitlab-ci.yml", ".gitignore", "README.md"} < set(files)
    assert "terraform/stacks/refiner/.terraform.lock.hcl" in files
    assert [name for name in files if re.search(r"(^|/)(tests?|tftest|node_modules|cli)/", name)] == []
    rulesets = refinerctl("prefixes", "--output", "json", cwd=project).json()["rulesets"]
    assert [ruleset["name"] for ruleset in rulesets] == ["RefinerComplete", "RefinerInput"]
    assert refinerctl("prefixes", "--env", "production", cwd=project).code == 2


def test_links_of_a_project_lead_to_its_own_files(project: Path) -> None:
    links = [
        (path, target)
        for path in project.rglob("*.md")
        for target in re.findall(r"\]\(([^)\s#]+)[^)]*\)", path.read_text())
        if ":" not in target
    ]

    assert links
    assert [link for link in links if not (link[0].parent / link[1]).exists()] == []


def test_the_gitlab_file_includes_the_component_in_this_version(project: Path, root: Path) -> None:
    pipeline = YAML(typ="safe").load(project / ".gitlab-ci.yml")
    head, jobs = YAML(typ="safe").load_all(root / "templates/refinerctl/template.yml")

    (include,) = pipeline["include"]
    assert include["component"].endswith(f"/refinerctl/refinerctl@v{__version__}")
    assert set(include["inputs"]) <= set(head["spec"]["inputs"])
    assert {job["stage"] for job in jobs.values() if "stage" in job} <= set(pipeline["stages"])


@pytest.mark.parametrize(
    ("folder", "command"), [("my project", "cd 'my project' && refinerctl demo"), (".", "refinerctl demo")]
)
def test_the_next_command_can_be_copied(refinerctl: Command, tmp_path: Path, folder: str, command: str) -> None:
    assert f"next: `{command}`\n" in refinerctl("init", folder, cwd=tmp_path).err


def test_an_empty_path_is_refused(refinerctl: Command, tmp_path: Path) -> None:
    """For instance of a variable that is not set: `refinerctl init "$NAME"`."""
    done = refinerctl("init", "", cwd=tmp_path)

    assert (done.code, list(tmp_path.iterdir())) == (2, [])
    assert "the path is empty" in done.err


def test_a_second_run_writes_nothing(project: Path, refinerctl: Command) -> None:
    (project / "README.md").write_text(OWN_README)
    (project / "images/README.md").unlink()
    before = files_of(project)

    for option in ((), ("--diff",), ("--update",)):
        done = refinerctl("init", str(project), *option)
        assert (done.code, done.out) == (0, "")
        assert f"refinerctl {__version__} changes nothing in " in done.err
    assert files_of(project) == before


def test_diff_shows_what_a_newer_version_changes_and_update_writes_it(project: Path, refinerctl: Command) -> None:
    new = files_of(project)
    make_older(
        project,
        **{
            ".gitignore": "*.tfstate\n",  # updated
            "images/worker/job.py": None,  # new
            "images/worker/old.py": "print()\n",  # removed
            "README.md": "# Old\n",  # changed by both
            "refinerctl.toml": "# old\n",  # the same change by both
            "images/README.md": "# Old\n",  # deleted by the user
        },
    )
    (project / "README.md").write_text(OWN_README)
    (project / "refinerctl.toml").write_bytes(new["refinerctl.toml"])
    (project / "images/README.md").unlink()
    before = files_of(project)

    refused = refinerctl("init", str(project))
    shown = refinerctl("init", str(project), "--diff")
    document = refinerctl("init", str(project), "--diff", "--output", "json")

    assert files_of(project) == before
    assert refused.code == 4
    assert "is already a project of refinerctl 0.0.1" in refused.err
    assert (shown.code, document.code) == (5, 5)
    statuses = {file["path"]: file["status"] for file in document.json()["files"]}
    assert statuses == {
        ".gitignore": "updated",
        "images/worker/job.py": "new",
        "images/worker/old.py": "removed",
        "README.md": "changed",
    }
    assert document.json()["previous_version"] == "0.0.1"
    assert "--- a/.gitignore\n+++ b/.gitignore\n" in shown.out
    assert "--- /dev/null\n+++ b/images/worker/job.py\n" in shown.out
    assert "--- a/images/worker/old.py\n+++ /dev/null\n" in shown.out
    patch, _, of_both = shown.out.partition("# You have also changed README.md")
    assert "README.md" not in patch
    assert "-# Our pipeline\n" in of_both

    updated = refinerctl("init", str(project), "--update")

    assert updated.code == 0
    expected = new | {"README.md": OWN_README.encode(), "README.md.new": new["README.md"]}
    del expected["images/README.md"]
    assert files_of(project) == expected
    assert "README.md.new" in updated.out
    assert refinerctl("init", str(project), "--diff").code == 0


def test_the_patch_can_be_applied(project: Path, refinerctl: Command, tmp_path: Path) -> None:
    new = files_of(project)
    make_older(project, **{".gitignore": "*.tfstate", "README.md": None, "images/worker/old.py": "print()\n"})
    patch = refinerctl("init", str(project), "--diff").out

    subprocess.run(["git", "apply", "-p1"], cwd=project, input=patch, text=True, check=True)

    assert {name: content for name, content in files_of(project).items() if name != RECORD} == {
        name: content for name, content in new.items() if name != RECORD
    }


def test_other_files_are_kept_and_conflicting_files_are_refused(tmp_path: Path, refinerctl: Command) -> None:
    (tmp_path / "LICENSE").write_text("ours")
    (tmp_path / "README.md").write_text(OWN_README)

    refused = refinerctl("init", ".", cwd=tmp_path)

    assert refused.code == 4
    assert "already has files with other content: README.md; nothing was written" in refused.err
    assert sorted(files_of(tmp_path)) == ["LICENSE", "README.md"]
    (tmp_path / "README.md").unlink()
    assert refinerctl("init", ".", cwd=tmp_path).code == 0
    assert (tmp_path / "LICENSE").read_text() == "ours"


def obstruct_by_link(folder: Path) -> Path:
    (folder / "elsewhere").mkdir()
    (folder / "project/terraform").symlink_to(folder / "elsewhere")
    return folder / "project/terraform"


def obstruct_by_dangling_link(folder: Path) -> Path:
    (folder / "project/refinerctl.toml").symlink_to(folder / "nowhere")
    return folder / "project/refinerctl.toml"


def obstruct_by_folder(folder: Path) -> Path:
    (folder / "project/README.md").mkdir()
    return folder / "project/README.md"


def obstruct_by_file(folder: Path) -> Path:
    (folder / "project/images").write_text("x")
    return folder / "project/images"


@pytest.mark.parametrize(
    "obstruct", [obstruct_by_link, obstruct_by_dangling_link, obstruct_by_folder, obstruct_by_file]
)
def test_a_folder_or_link_in_place_of_a_file_is_refused_and_nothing_is_written(
    tmp_path: Path, refinerctl: Command, obstruct: Callable[[Path], Path]
) -> None:
    (tmp_path / "project").mkdir()
    obstacle = obstruct(tmp_path)
    before = files_of(tmp_path)

    done = refinerctl("init", str(tmp_path / "project"))

    assert done.code == 4
    assert f"{obstacle} is " in done.err
    assert "nothing was written" in done.err
    assert files_of(tmp_path) == before


def test_a_link_to_the_folder_itself_is_followed(tmp_path: Path, refinerctl: Command) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")

    assert refinerctl("init", str(tmp_path / "link")).code == 0
    assert (tmp_path / "real/refinerctl.toml").is_file()


def test_a_file_instead_of_a_folder_is_a_usage_error(tmp_path: Path, refinerctl: Command) -> None:
    (tmp_path / "file").write_text("x")

    done = refinerctl("init", str(tmp_path / "file"))

    assert done.code == 2
    assert "is a file" in done.err
    assert refinerctl("init", str(tmp_path / "file/below")).code == 1


def test_a_folder_without_permission_is_named(tmp_path: Path) -> None:
    """In a child that is nobody: root may write everywhere."""
    (tmp_path / "theirs").mkdir(0o555)
    tmp_path.chmod(0o755)
    reading, writing = os.pipe()
    if os.fork() == 0:
        said = "the child failed"
        try:
            os.chdir(tmp_path)  # a relative path from here on: the folders above are not nobody's business
            if os.geteuid() == 0:
                os.setuid(NOBODY)
            files = {"refinerctl.toml": b""}
            changes = find_changes(Path("theirs/mine"), ProjectOrigin("", {}), files)
            write_project(Path("theirs/mine"), changes, "1.0.0", files)
        except RefinerctlError as error:
            said = error.message
        finally:
            os.write(writing, said.encode())
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        assert pipe.read() == "cannot create folder theirs/mine: Permission denied"
    os.wait()


def test_after_a_failure_the_next_run_completes_it(tmp_path: Path, made: Path, refinerctl: Command) -> None:
    """A limit of file sizes, because a disk that is full needs root."""
    done = spawn(
        "init", "half", cwd=tmp_path, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
    )

    assert done.returncode == 1
    assert re.search(r"cannot write \S+/half/\S+: File too large", done.stderr)
    half = files_of(tmp_path / "half")
    assert half
    assert RECORD not in half
    assert refinerctl("init", "half", cwd=tmp_path).code == 0
    assert files_of(tmp_path / "half") == files_of(made)


@pytest.mark.parametrize(
    "record", ["{", "[]", '{"version": 1}', '{"version": "0.1.0", "files": {"../x": ""}}', "\udcff"]
)
def test_a_damaged_record_is_named(project: Path, refinerctl: Command, record: str) -> None:
    (project / RECORD).write_bytes(record.encode(errors="surrogateescape"))

    done = refinerctl("init", str(project), "--update")

    assert done.code == 1
    assert f"{project / RECORD} is damaged" in done.err
    assert "Restore it from git" in done.err


def test_a_project_of_a_newer_version_is_not_updated(project: Path, refinerctl: Command) -> None:
    make_older(project, **{".gitignore": "newer\n"})
    record = json.loads((project / RECORD).read_text()) | {"version": "9.0.0"}
    (project / RECORD).write_text(json.dumps(record))

    done = refinerctl("init", str(project), "--update")

    assert done.code == 4
    assert "is a project of refinerctl 9.0.0, newer than" in done.err
    assert (project / ".gitignore").read_text() == "newer\n"


@pytest.mark.parametrize("options", [("--diff",), ("--update",)])
def test_without_a_project_there_is_nothing_to_compare(
    tmp_path: Path, refinerctl: Command, options: tuple[str, ...]
) -> None:
    done = refinerctl("init", str(tmp_path / "new"), *options)

    assert done.code == 1
    assert "was not created by `init`" in done.err
    assert not (tmp_path / "new").exists()


def test_diff_and_update_are_mutually_exclusive(project: Path, refinerctl: Command) -> None:
    assert refinerctl("init", str(project), "--diff", "--update").code == 2


def test_needs_no_valid_settings(tmp_path: Path, refinerctl: Command, monkeypatch: Any) -> None:
    """Those of the folder above are another project's."""
    (tmp_path / "refinerctl.toml").write_text("damaged")
    monkeypatch.setenv("REFINERCTL_ENV", "production")

    assert refinerctl("init", "below", cwd=tmp_path).code == 0
