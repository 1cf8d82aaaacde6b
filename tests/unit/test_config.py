"""Settings: flag > environment variable > refinerctl.toml > default, and errors in refinerctl.toml."""

from __future__ import annotations

import os
import re
import tempfile
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.config import GlobalFlags, Settings, environment_names, find_config, load_settings
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.images import BuildContext, ImageReference, Platform, RunsOn
from refinerctl.stacks import find_stack
from refinerctl.stacks.base import Storage
from tests.needs import absent

FULL = """
environment = "staging"
stack = "refiner"

[stacks.refiner]
bucket = "stack-bucket"
input_prefix = "/In/"
output_prefix = "Out/"
complete_prefix = "/Done/"
name_prefix = "team"

[images.refiner]
repository = "team/refiner"
context = "images/refiner"

[environments.staging]
region = "eu-west-1"
profile = "toml-profile"
endpoint_url = "http://toml:1"
assume_role = "arn:toml"
assume_role_external_id = "id-toml"

[environments.local]
embedded = true
bucket = "environment-bucket"
"""


def load(
    folder: Path, text: str | None = FULL, flags: GlobalFlags | None = None, environ: dict[str, str] | None = None
) -> Settings:
    if text is not None:
        (folder / "refinerctl.toml").write_text(text, encoding="utf-8")
    return load_settings(flags or GlobalFlags(), environ or {}, folder)


def storage(settings: Settings) -> Storage:
    make = find_stack(settings.stack).storage
    assert make is not None
    return make(settings.stack_settings)


# Name of the setting, its value by flag, by variable, by FULL, and by default.
PRECEDENCE = [
    ("env", "local", "local", "staging", "local"),
    ("stack", "registry", "registry", "refiner", "refiner"),
    ("output", "json", "json", "text", "text"),
    ("region", "us-west-1", "us-west-2", "eu-west-1", "us-east-1"),
    ("profile", "flag-profile", "variable-profile", "toml-profile", None),
    ("endpoint_url", "http://flag:1", "http://variable:1", "http://toml:1", None),
    ("assume_role", "arn:flag", "arn:variable", "arn:toml", None),
    ("assume_role_external_id", "id-flag", "id-variable", "id-toml", None),
]


class TestPrecedence:
    @pytest.mark.parametrize(
        ("name", "flag", "variable", "toml", "default"), PRECEDENCE, ids=[p[0] for p in PRECEDENCE]
    )
    def test_flag_beats_variable_beats_file_beats_default(
        self, tmp_path: Path, name: str, flag: str, variable: str, toml: str, default: str | None
    ) -> None:
        empty = tmp_path / "empty"
        empty.mkdir()
        environ = {f"REFINERCTL_{name.upper()}": variable}
        other = {"REFINERCTL_" + name.upper(): "no-such-value"}
        given: dict[str, Any] = {name: flag}
        flags = replace(GlobalFlags(), **given)
        assert getattr(load(empty, None), name) == default
        assert getattr(load(tmp_path), name) == toml
        assert getattr(load(tmp_path, environ=environ), name) == variable
        assert getattr(load(tmp_path, flags=flags, environ=other), name) == flag

    def test_bucket_of_the_environment_beats_that_of_the_stack(self, tmp_path: Path) -> None:
        environ = {"REFINERCTL_BUCKET": "variable-bucket"}
        assert load(tmp_path).stack_settings["bucket"] == "stack-bucket"
        assert load(tmp_path, environ=environ).stack_settings["bucket"] == "variable-bucket"
        flags = GlobalFlags(bucket="flag-bucket")
        assert load(tmp_path, flags=flags, environ=environ).stack_settings["bucket"] == "flag-bucket"
        assert load(tmp_path, flags=GlobalFlags(env="local")).stack_settings["bucket"] == "environment-bucket"

    def test_local_environment_ignores_roles(self, tmp_path: Path) -> None:
        here = load(tmp_path, flags=GlobalFlags(env="local"), environ={"REFINERCTL_ASSUME_ROLE": "arn:variable"})
        assert (here.assume_role, here.assume_role_external_id) == (None, None)

    def test_external_id_without_a_role_is_a_usage_error(self, tmp_path: Path) -> None:
        flags = GlobalFlags(env="there", assume_role_external_id="x")
        with pytest.raises(UsageError, match="no role to assume"):
            load(tmp_path, "[environments.there]\n", flags=flags)

    def test_settings_of_a_stack_in_an_environment_beat_those_of_both(self, tmp_path: Path) -> None:
        text = """
            [stacks.rnr]
            bucket = "stack-bucket"
            merged_prefix = "m/"
            [environments.prod]
            bucket = "environment-bucket"
            [environments.prod.stacks.rnr]
            bucket = "own-bucket"
            output_bucket = "results"
        """
        (tmp_path / "refinerctl.toml").write_text(text)
        found = {
            stack: load_settings(GlobalFlags(env="prod", stack=stack), {}, tmp_path).stack_settings
            for stack in ("refiner", "rnr")
        }
        assert found["refiner"]["bucket"] == "environment-bucket"
        assert (found["rnr"]["bucket"], found["rnr"]["output_bucket"], found["rnr"]["merged_prefix"]) == (
            "own-bucket", "results", "m/"
        )  # fmt: skip
        flags = GlobalFlags(env="prod", stack="rnr", bucket="flag-bucket")
        assert load_settings(flags, {}, tmp_path).stack_settings["bucket"] == "flag-bucket"

    @pytest.mark.parametrize("in_variable", [True, False])
    def test_broker_url_with_credentials_is_refused_and_not_repeated(self, tmp_path: Path, in_variable: bool) -> None:
        url = "amqps://me:hidden@broker"
        flags = GlobalFlags() if in_variable else GlobalFlags(broker_url=url)
        with pytest.raises(UsageError, match="must not contain credentials") as refused:
            load_settings(flags, {"REFINERCTL_BROKER_URL": url} if in_variable else {}, tmp_path)
        assert "hidden" not in f"{refused.value.message} {refused.value.hint}"

    def test_local_environment_ignores_endpoint_and_bucket_variables(self, tmp_path: Path) -> None:
        environ = {"REFINERCTL_BUCKET": "variable-bucket", "REFINERCTL_ENDPOINT_URL": "http://variable:1"}
        here = load(tmp_path, flags=GlobalFlags(env="local"), environ=environ)
        assert (here.stack_settings["bucket"], here.endpoint_url) == ("environment-bucket", None)
        asked = GlobalFlags(env="local", bucket="flag-bucket", endpoint_url="http://flag:1")
        here = load(tmp_path, flags=asked, environ=environ)
        assert (here.stack_settings["bucket"], here.endpoint_url) == ("flag-bucket", "http://flag:1")

    def test_default_of_the_region(self, tmp_path: Path) -> None:
        environ = {"AWS_REGION": "ap-south-1"}
        assert load(tmp_path, environ=environ).region == "eu-west-1"
        assert load(tmp_path, flags=GlobalFlags(env="local"), environ=environ).embedded_region == "us-east-1"
        bare = "[environments.there]\n"
        assert load(tmp_path, bare, flags=GlobalFlags(env="there"), environ=environ).region == "ap-south-1"
        assert load(tmp_path, bare, flags=GlobalFlags(env="there"), environ={}).region is None

    def test_environments_without_a_file(self, tmp_path: Path) -> None:
        assert load_settings(GlobalFlags(), {}, tmp_path).embedded
        assert not load_settings(GlobalFlags(env="aws"), {}, tmp_path).embedded

    def test_empty_variable_is_ignored(self, tmp_path: Path) -> None:
        environ = {f"REFINERCTL_{name.upper()}": "" for name, *_ in PRECEDENCE} | {"REFINERCTL_CONFIG": ""}
        assert load(tmp_path, environ=environ) == load(tmp_path)

    @pytest.mark.parametrize(
        ("flag", "environ", "expected"),
        [
            (0, {}, 0),
            (0, {"REFINERCTL_VERBOSE": "2"}, 2),
            (0, {"REFINERCTL_VERBOSE": "yes"}, 1),
            (0, {"REFINERCTL_VERBOSE": "no"}, 0),
            (0, {"REFINERCTL_QUIET": "1"}, -1),
            (0, {"REFINERCTL_QUIET": "On"}, -1),
            (1, {"REFINERCTL_QUIET": "1"}, 1),
            (-1, {"REFINERCTL_VERBOSE": "2"}, -1),
        ],
    )
    def test_verbosity(self, tmp_path: Path, flag: int, environ: dict[str, str], expected: int) -> None:
        assert load(tmp_path, flags=GlobalFlags(verbosity=flag), environ=environ).verbosity == expected

    @pytest.mark.parametrize("name", ["REFINERCTL_QUIET", "REFINERCTL_VERBOSE"])
    @pytest.mark.parametrize("given", ["maybe", "-1", "1.5"])
    def test_invalid_verbosity_variable_is_an_error(self, tmp_path: Path, name: str, given: str) -> None:
        with pytest.raises(UsageError, match=f"{name} has the invalid value '{given}'"):
            load(tmp_path, environ={name: given})

    @pytest.mark.parametrize("off", ["0", "false", "no"])
    def test_switched_off_quiet_variable_is_ignored(self, tmp_path: Path, off: str) -> None:
        assert load(tmp_path, environ={"REFINERCTL_QUIET": off}).verbosity == 0


class TestFile:
    def test_nearest_file_above_is_used(self, tmp_path: Path) -> None:
        inner = tmp_path / "a" / "b"
        inner.mkdir(parents=True)
        (tmp_path / "refinerctl.toml").write_text('stack = "registry"')
        assert load_settings(GlobalFlags(), {}, inner).stack == "registry"
        assert load_settings(GlobalFlags(), {}, inner).project == tmp_path
        (tmp_path / "a" / "refinerctl.toml").write_text('stack = "refiner"')
        assert find_config(inner) == tmp_path / "a" / "refinerctl.toml"
        assert load_settings(GlobalFlags(), {}, inner).stack == "refiner"

    def test_variable_names_another_file(self, tmp_path: Path) -> None:
        other = tmp_path / "elsewhere" / "settings.toml"
        other.parent.mkdir()
        other.write_text('stack = "registry"\n[images.x]\nrepository = "x"\ncontext = "c"')
        settings = load(tmp_path, environ={"REFINERCTL_CONFIG": str(other)})
        assert settings.stack == "registry"
        assert settings.project == other.parent
        assert settings.images[0].context == BuildContext(other.parent / "c")
        assert settings.work_folder == other.parent / ".refinerctl"

    def test_defaults_without_a_file(self, tmp_path: Path) -> None:
        settings = load(tmp_path, None)
        assert settings.embedded
        assert settings.stack_settings == find_stack("refiner").settings
        assert settings.project == tmp_path

    def test_prefixes_are_normalized(self, tmp_path: Path) -> None:
        settings = load(tmp_path)
        assert storage(settings) == Storage("stack-bucket", "In/", "Out/", "Done/")
        assert not settings.embedded
        assert load(tmp_path, flags=GlobalFlags(env="local")).embedded
        (image,) = settings.images
        assert (image.name, image.repository, image.context) == (
            "refiner",
            "team/refiner",
            BuildContext(tmp_path / "images" / "refiner"),
        )


class TestImages:
    def test_settings_of_an_image(self, tmp_path: Path) -> None:
        text = """
        [images.worker]
        repository = "team/worker"
        context = "images"
        dockerfile = "worker/Dockerfile"
        source = "ghcr.io/team/worker"
        stack = "registry"
        platform = "linux/arm64"
        runs_on = "ecs"
        """
        (image,) = load(tmp_path, text).images
        assert image.context.dockerfile_path == tmp_path / "images" / "worker" / "Dockerfile"
        assert image.source == ImageReference("team/worker", "ghcr.io")
        assert (image.stack, image.platform, image.runs_on) == ("registry", Platform("linux", "arm64"), RunsOn.ECS)

    def test_defaults_of_an_image(self, tmp_path: Path) -> None:
        (image,) = load(tmp_path).images
        assert (image.source, image.stack) == (None, "refiner")
        assert (str(image.platform), image.runs_on) == ("linux/amd64", RunsOn.LAMBDA)

    def test_image_of_no_stack(self, tmp_path: Path) -> None:
        table = '[images.cli]\nrepository = "team/cli"\ncontext = "."\nstack = ""\n'
        (image,) = load(tmp_path, f'{table}other_platforms = ["linux/arm64"]').images
        assert (image.stack, image.runs_on) == ("", None)
        assert list(map(str, image.platforms)) == ["linux/amd64", "linux/arm64"]
        (image,) = load(tmp_path, f'{table}runs_on = "ecs"').images
        assert image.runs_on == RunsOn.ECS


class TestTools:
    def test_a_variable_takes_precedence_over_the_file_and_the_default(self, tmp_path: Path) -> None:
        assert load(tmp_path).terraform_binary == "terraform"
        text = '[tools]\nterraform_binary = "tofu"'
        assert load(tmp_path, text).terraform_binary == "tofu"
        environ = {"REFINERCTL_TERRAFORM_BINARY": "/opt/terraform"}
        assert load(tmp_path, text, environ=environ).terraform_binary == "/opt/terraform"

    @pytest.mark.parametrize("key", ["terraform_version", "terraform_base_url"])
    def test_keys_of_the_removed_installation_are_an_error(self, tmp_path: Path, key: str) -> None:
        with pytest.raises(RefinerctlError, match=f"tools.{key} is no longer supported") as said:
            load(tmp_path, f'[tools]\n{key} = "1.11.4"')
        assert "terraform_binary" in str(said.value.hint)


class TestOwner:
    """A file of another user may name programs that would then run as this one."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        if os.geteuid() != 0:
            absent("only root can give files to another user")
        folder = tmp_path / "shared" / "inner"
        folder.mkdir(parents=True)
        (folder.parent / "refinerctl.toml").write_text('[tools]\nterraform_binary = "/tmp/evil"\n')
        return folder

    @pytest.mark.parametrize("given_away", ["refinerctl.toml", "."])
    def test_a_file_or_folder_of_another_user_is_refused(self, project: Path, given_away: str) -> None:
        place = project.parent / given_away
        os.chown(place, 4711, -1)
        for use in (lambda: load(project, None), lambda: environment_names({}, project)):
            with pytest.raises(RefusedError) as caught:
                use()
            assert caught.value.exit_code == 4
            assert f"{project.parent / 'refinerctl.toml'} is not used" in caught.value.message
            what = f"{place} belongs" if place.is_dir() else "it belongs"
            assert f"{what} to user 4711, not to you" in caught.value.message
            assert f"export REFINERCTL_CONFIG={project.parent / 'refinerctl.toml'}" in str(caught.value.hint)

    def test_a_link_of_another_user_is_refused(self, project: Path, tmp_path: Path) -> None:
        link = project / "refinerctl.toml"
        link.symlink_to(project.parent / "refinerctl.toml")
        os.chown(link, 4711, -1, follow_symlinks=False)
        with pytest.raises(RefusedError, match=r"inner/refinerctl\.toml is not used: it belongs to user 4711"):
            load(project, None)

    def test_a_file_that_is_named_is_used(self, project: Path) -> None:
        path = project.parent / "refinerctl.toml"
        os.chown(path, 4711, -1)
        assert load(project, None, environ={"REFINERCTL_CONFIG": str(path)}).terraform_binary == "/tmp/evil"

    def test_under_sudo_the_callers_own_file_is_used(self, project: Path) -> None:
        os.chown(project.parent / "refinerctl.toml", 4711, -1)
        assert load(project, None, environ={"SUDO_UID": "4711"}).terraform_binary == "/tmp/evil"

    @pytest.mark.usefixtures("project")
    def test_a_file_of_root_is_used_by_others(self) -> None:
        with tempfile.TemporaryDirectory() as name:  # those above tmp_path are closed to others
            folder = Path(name)
            folder.chmod(0o755)
            (folder / "refinerctl.toml").write_text('[tools]\nterraform_binary = "/opt/terraform"\n')
            os.seteuid(4711)
            try:
                settings = load(folder, None)
            finally:
                os.seteuid(0)
        assert settings.terraform_binary == "/opt/terraform"


class TestMistakes:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ('regio = "x"', "unknown key regio"),
            ('[environments.local]\nregio = "x"', "environments.local: unknown key regio"),
            ('[stacks.refiner]\ninput = "x"', "stacks.refiner: unknown key input"),
            ('[images.refiner]\nrepo = "x"', "images.refiner: unknown key repo"),
            ("environment = 1", "environment"),
            ("stack = true", "stack"),
            ("environments = 7", "environments"),
            ("environments = []", "environments"),
            ("[environments]\nlocal = 7", "expected a table"),
            ('[environments.far]\naccount = "1234"', "environments.far.account: expected the 12 digits"),
            ("[environments.far]\naccount = 123456789012", "environments.far.account: expected text in quotes"),
            ("[environments.local]\nembedded = 1", "environments.local.embedded"),
            ('[environments.local]\nembedded = "yes"', "environments.local.embedded: expected true or false"),
            ("[stacks.refiner]\nbucket = 1", "stacks.refiner.bucket: expected text in quotes"),
            ('[images.refiner]\nrepository = "x"', "context"),
            ("[images.refiner]", "images.refiner: key repository is missing"),
            ("[", "not valid TOML"),
            ("a = 1\na = 2", "not valid TOML"),
            ('[stacks.refinr]\nbucket = "x"', "stacks.refinr"),
            ('[environments.x.stacks.rnr]\nbuckt = "x"', "environments.x.stacks.rnr: unknown key buckt"),
            ("tools = 1", "tools"),
            ("[tools]\nterraform_binary = 1", "tools.terraform_binary"),
            ('[tools]\nterraform = "tofu"', "tools: unknown key terraform"),
            ('[images.x]\nrepository = "x"\ncontext = "c"\nplatform = "amd64"', "images.x"),
            ('[images.x]\nrepository = "x"\ncontext = "c"\nruns_on = "fargate"', "images.x"),
            ('[images.x]\nrepository = "x"\ncontext = "c"\nsource = "https://ghcr.io/x"', "images.x"),
            ('[images.x]\nrepository = "x"\ncontext = "c"\nstack = "refinr"', "images.x"),
        ],
    )
    def test_error_names_the_file_and_the_key(self, tmp_path: Path, text: str, said: str) -> None:
        with pytest.raises(RefinerctlError) as caught:
            load(tmp_path, text)
        assert said in caught.value.message
        assert "refinerctl.toml" in caught.value.message
        assert caught.value.exit_code in (1, 2)

    def test_unknown_backend_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="unknown backend 'gcs'"):
            load(tmp_path, '[environments.local]\nbackend = "gcs"')

    def test_file_with_another_encoding_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "refinerctl.toml").write_bytes(b'environment = "\xe9"')
        with pytest.raises(RefinerctlError, match="not valid TOML"):
            load(tmp_path, None)

    def test_invalid_prefix_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="is not a prefix"):
            load(tmp_path, '[stacks.refiner]\ninput_prefix = "In"')

    def test_missing_named_file_is_an_error(self, tmp_path: Path) -> None:
        missing = str(tmp_path / "nowhere.toml")
        with pytest.raises(RefinerctlError, match=r"cannot read .*nowhere\.toml: No such file"):
            load(tmp_path, environ={"REFINERCTL_CONFIG": missing})

    def test_folder_instead_of_a_file_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(RefinerctlError, match="cannot read"):
            load(tmp_path, environ={"REFINERCTL_CONFIG": str(tmp_path)})

    def test_unknown_environment_lists_the_known_ones(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="'prod'") as caught:
            load(tmp_path, flags=GlobalFlags(env="prod"))
        hint = "Environments: local, staging. Pass --env, or add one: `refinerctl env new NAME`."
        assert caught.value.hint == hint

    def test_without_a_default_environment_one_must_be_selected(self, tmp_path: Path) -> None:
        text = "[environments.staging]"
        with pytest.raises(UsageError, match="no environment is selected in"):
            load(tmp_path, text)
        assert load(tmp_path, text, environ={"REFINERCTL_ENV": "staging"}).env == "staging"

    @pytest.mark.parametrize(
        ("flags", "environ"),
        [
            (GlobalFlags(stack="other"), {}),
            (GlobalFlags(output="yaml"), {}),
            (GlobalFlags(), {"REFINERCTL_STACK": "other"}),
            (GlobalFlags(), {"REFINERCTL_OUTPUT": "yaml"}),
        ],
    )
    def test_unknown_stack_or_output_is_a_usage_error(
        self, tmp_path: Path, flags: GlobalFlags, environ: dict[str, str]
    ) -> None:
        with pytest.raises(UsageError) as caught:
            load(tmp_path, flags=flags, environ=environ)
        assert caught.value.exit_code == 2

    @given(
        st.dictionaries(
            st.sampled_from(["environment", "stack", "stacks", "images", "environments", "other"]),
            st.sampled_from(
                ['"local"', "1", "true", "[]", "{}", "{ a = 1 }", "{ local = {} }", "{ refiner = { x = 1 } }"]
            ),
        )
    )
    def test_any_document_is_settings_or_an_error(
        self, tmp_path_factory: pytest.TempPathFactory, document: dict[str, str]
    ) -> None:
        folder = tmp_path_factory.mktemp("any")
        text = "\n".join(f"{key} = {value}" for key, value in document.items())
        try:
            settings = load(folder, text)
        except RefinerctlError as error:
            assert error.message  # noqa: PT017 - either outcome is right
        else:
            assert settings.stack == "refiner"


def _assigned(text: str, name: str) -> str | None:
    found = re.search(rf'^{name}\s*=\s*"([^"]*)"', text, re.MULTILINE)
    return found[1] if found else None


class TestThisRepository:
    """Names in refinerctl.toml equal those in Terraform."""

    @pytest.fixture
    def document(self, root: Path) -> dict[str, Any]:
        return tomllib.loads((root / "refinerctl.toml").read_text())

    def test_file_loads_for_each_environment(self, root: Path, document: dict[str, Any]) -> None:
        for env in document["environments"]:
            settings = load_settings(GlobalFlags(env=env), {}, root)
            assert settings.embedded == (env == "local")
            assert (root / "terraform" / "environments" / env / "refiner.tfvars").is_file()

    @pytest.mark.parametrize(
        ("ours", "terraforms"),
        [
            ("bucket", "bucket_name"),
            ("output_prefix", "output_prefix"),
            ("complete_prefix", "complete_prefix"),
            ("name_prefix", "name_prefix"),
        ],
    )
    def test_defaults_equal_those_of_terraform(self, root: Path, ours: str, terraforms: str) -> None:
        text = (root / "terraform/stacks/refiner/variables.tf").read_text()
        block = text.partition(f'variable "{terraforms}"')[2].partition("\n}")[0]
        default = _assigned(block, r"\s*default")
        assert default is not None
        assert default.removeprefix("/") == load_settings(GlobalFlags(), {}, root).stack_settings[ours]

    def test_rulesets_of_each_environment_have_the_prefixes(self, root: Path, document: dict[str, Any]) -> None:
        for env in document["environments"]:
            settings = load_settings(GlobalFlags(env=env), {}, root).stack_settings
            text = (root / f"terraform/environments/{env}/refiner.tfvars").read_text()
            rulesets = dict(re.findall(r'^  (\w+) = \{\n\s*prefix\s*=\s*"([^"]+)"', text, re.MULTILINE))
            by_prefix = {prefix.removeprefix("/"): name for name, prefix in rulesets.items()}
            assert {settings["input_prefix"], settings["complete_prefix"]} <= by_prefix.keys()

    def test_bucket_of_each_environment_equals_that_of_terraform(self, root: Path, document: dict[str, Any]) -> None:
        for env in document["environments"]:
            text = (root / f"terraform/environments/{env}/refiner.tfvars").read_text()
            if (name := _assigned(text, "bucket_name")) is not None:
                assert load_settings(GlobalFlags(env=env), {}, root).stack_settings["bucket"] == name

    def test_buckets_of_stack_rnr_equal_those_of_terraform(self, root: Path, document: dict[str, Any]) -> None:
        for env in document["environments"]:
            text = (root / f"terraform/environments/{env}/rnr.tfvars").read_text()
            settings = load_settings(GlobalFlags(env=env, stack="rnr"), {}, root).stack_settings
            assert settings["bucket"] == _assigned(text, "input_bucket_name")
            assert settings["output_bucket"] == (_assigned(text, "output_bucket_name") or "")

    def test_images_are_those_that_terraform_runs(self, root: Path) -> None:
        for image in load_settings(GlobalFlags(), {}, root).images:
            if image.stack:  # refinerctl's own is in none
                text = (root / f"terraform/environments/local/{image.stack}.tfvars").read_text()
                assert f'"{image.repository}"' in text
            assert image.context.dockerfile_path.is_file()
