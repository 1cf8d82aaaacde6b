"""The files of a new environment, and how they get to their places: all of them, or none."""

from __future__ import annotations

import difflib
import json
import os
import re
import shutil
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from string import Template

from refinerctl.config import Settings
from refinerctl.console import printable
from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.files import FileEdit, read_file
from refinerctl.setup.environments import EnvironmentSummary

TEMPLATES = Path(__file__).with_name("environment")
# With `rnr-` before it, and within what ElastiCache accepts; see variable `env` of terraform/stacks/rnr.
MAX_NAME = 30
_NAME = re.compile(r"[a-z0-9](?:-?[a-z0-9])*", re.ASCII)
_REGION = re.compile(r"[a-z]{2}(?:-[a-z]+)+-[0-9]+", re.ASCII)
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html
_RESERVED_STARTS = ("xn--", "sthree-", "amzn-s3-demo-")
_RESERVED_ENDS = ("-s3alias", "--ols-s3", ".mrap", "--x-s3", "--table-s3")
_PROJECT = re.compile(r"[A-Za-z0-9_][\w.-]*(?:/[A-Za-z0-9_][\w.-]*)+", re.ASCII)
_TAG_NAME = re.compile(r"[\w .:/=+@*-]{1,256}", re.ASCII)


@dataclass(frozen=True)
class NewEnvironment:
    """The answers of a user, valid ones. `vpc` None: without stack rnr; `gitlab_project` None: without stack access.

    `state_bucket` None: the states are kept over HTTP. `others_here` are environments in the same account.
    """

    name: str
    account: str
    region: str
    bucket: str
    state_bucket: str | None
    vpc: str | None = None
    subnets: tuple[str, ...] = ()
    rnr_bucket: str = ""
    gitlab_project: str | None = None
    state_region: str = ""
    existing_buckets: frozenset[str] = frozenset()
    others_here: tuple[EnvironmentSummary, ...] = ()
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def name_prefix(self) -> str:
        """Of an environment that is not alone in its account: none of another's names begins with it."""
        return f"{self.name}-dibbs-ecr"

    @property
    def bus_name(self) -> str:
        return f"data-repository-bus-{self.name}"

    @property
    def shares_registry(self) -> bool:
        """Whether an environment in the same account and region has the repositories already."""
        return any(other.region == self.region and "registry" in other.stacks for other in self.others_here)


def check_name(text: str) -> str:
    """Raises UsageError, with the reason, for a name that not all stacks accept; as the others of its kind."""
    if not _NAME.fullmatch(text):
        reason = "use lower-case letters, digits and single hyphens, like `production`"
    elif len(text) > MAX_NAME:
        reason = (
            f"it has {len(text)} characters; the maximum is {MAX_NAME}, because it is part of names of AWS resources"
        )
    else:
        return text
    raise UsageError(f"{printable(text)!r} is not the name of an environment: {reason}")


def check_account_id(text: str) -> str:
    if not re.fullmatch(r"\d{12}", text, re.ASCII):
        raise UsageError(f"{printable(text)!r} is not an AWS account: use its 12 digits")
    return text


def check_region(text: str) -> str:
    if not _REGION.fullmatch(text):
        raise UsageError(
            f"{printable(text)!r} is not a region: use a code like us-east-1, not a name or an Availability Zone"
        )
    return text


def unknown_region(text: str) -> str | None:
    """Why the region may be a misspelt one; the SDK may be older than a region."""
    from botocore.session import Session

    session = Session(session_vars={"profile": (None, None, None, None)})  # AWS_PROFILE may name a missing one
    known = [name for partition in session.get_available_partitions() for name in _regions(session, partition)]
    if text in known:
        return None
    close = difflib.get_close_matches(text, known, 1)
    return f"the AWS SDK does not know region {text}{f'; is it {close[0]}?' if close else ''}"


def _regions(session: object, partition: str) -> list[str]:
    names: list[str] = session.get_available_regions("s3", partition)  # type: ignore[attr-defined]
    return names


def check_bucket(text: str) -> str:
    reason = None
    if not _BUCKET.fullmatch(text):
        reason = "use 3 to 63 lower-case letters, digits, hyphens and dots, with a letter or digit at both ends"
    elif ".." in text or _is_address(text):
        reason = "it must neither have two dots in a row nor look like an IP address"
    elif text.startswith(_RESERVED_STARTS) or text.endswith(_RESERVED_ENDS):
        reason = "AWS reserves names that begin or end like this"
    if reason is None:
        return text
    raise UsageError(f"{printable(text)!r} is not the name of a bucket: {reason}")


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def check_network(text: str) -> str:
    """The ID of a VPC or subnet, or its tag Name."""
    if not _TAG_NAME.fullmatch(text) or text != text.strip():
        raise UsageError(f"{printable(text)!r} is neither the ID of a VPC or subnet nor its tag Name")
    return text


def check_project(text: str) -> str:
    if not _PROJECT.fullmatch(text):
        raise UsageError(f"{printable(text)!r} is not the path of a GitLab project, like group/project")
    return text


def files_of(new: NewEnvironment, settings: Settings) -> dict[str, str]:
    """The files of the environment's folder, by name, for the stacks that the project has."""
    wanted = {
        "refiner": True,
        "rnr": new.vpc is not None,
        "registry": not new.shares_registry,
        "access": new.gitlab_project is not None and new.state_bucket is not None,
    }
    names = [
        f"{stack}.tfvars" for stack, given in wanted.items() if given and settings.layout.root_module(stack).is_dir()
    ]
    names += ["backend.hcl"] if new.state_bucket else []
    values = _values(new, settings)
    return {
        name: Template((TEMPLATES / name).read_text(encoding="utf-8")).substitute(values).rstrip("\n") + "\n"
        for name in names
    }


def _values(new: NewEnvironment, settings: Settings) -> dict[str, str]:
    stacks = ("refiner", "rnr") if new.vpc else ("refiner",)
    repositories = [image.repository for image in settings.images if image.stack in stacks]
    exists, names, boundary = "", "", ""
    if new.bucket in new.existing_buckets:
        exists = "\n# It exists already. Its EventBridge notifications must be enabled.\ncreate_bucket = false\n"
    if new.others_here:
        names = (
            f"\n# Environment {new.others_here[0].name} is in this account, too: names must be unique in it.\n"
            f'name_prefix = "{new.name_prefix}"\nbus_name    = "{new.bus_name}"\n'
        )
    if new.gitlab_project and new.state_bucket:
        boundary = (
            "\n# Role deploy of the GitLab jobs creates only roles with it. Deploy stack access first: it creates it.\n"
            f'permissions_boundary = "arn:aws:iam::{new.account}:policy/ci-{new.name}-boundary"\n'
        )
    return {
        **{name: str(getattr(new, name) or "") for name in ("name", "account", "region", "bucket", "rnr_bucket")},
        "state_bucket": new.state_bucket or "",
        "state_region": new.state_region or new.region,
        "gitlab_project": new.gitlab_project or "",
        "existing_bucket": exists,
        "names": names,
        "boundary": boundary,
        "repositories": "\n".join(f'  "{name}",' for name in dict.fromkeys(repositories)),
        "create_buckets": "false" if new.rnr_bucket in new.existing_buckets else "true",
        **_network(new),
        **_access(new),
    }


def _network(new: NewEnvironment) -> dict[str, str]:
    subnets = ", ".join(f'"{subnet}"' for subnet in new.subnets)
    return {
        "vpc": f'vpc_{"id" if is_id(new.vpc or "") else "name"} = "{new.vpc}"',
        "subnets": f"subnet_{'ids' if all(map(is_id, new.subnets)) else 'names'} = [{subnets}]",
    }


def is_id(text: str) -> bool:
    """Whether it is the ID of a VPC or a subnet, and not a name."""
    return re.fullmatch(r"(?:vpc|subnet)-[0-9a-f]+", text) is not None


def _access(new: NewEnvironment) -> dict[str, str]:
    given = {"bucket_name": new.bucket}
    if new.others_here:
        given |= {"name_prefix": new.name_prefix, "bus_name": new.bus_name}
    rnr = ""
    if new.vpc:
        own = "false" if new.rnr_bucket in new.existing_buckets else "true"
        vpc = f'"{new.vpc}"' if is_id(new.vpc) else '"vpc-…" # of the VPC with this name'
        rnr = (
            f'\nrnr = {{\n  name              = "rnr-{new.name}"\n  vpc_id            = {vpc}\n'
            f'  input_bucket_name = "{new.rnr_bucket}"\n  create_buckets    = {own}\n}}\n'
        )
    provider = ""
    if other := next((other.name for other in new.others_here if "access" in other.stacks), None):
        arn = f"arn:aws:iam::{new.account}:oidc-provider/gitlab.com"
        said = f"# Environment {other} has created it: an account has one provider for each GitLab."
        provider = f'\n{said}\noidc_provider_arn = "{arn}"\n'
    pairs = ", ".join(f'{name} = "{value}"' for name, value in given.items())
    return {"access_refiner": f"refiner = {{ {pairs} }}", "access_rnr": rnr, "oidc_provider": provider}


def section_of(new: NewEnvironment) -> str:
    """The environment's tables of refinerctl.toml."""
    backend = {} if new.state_bucket else {"backend": "http"}
    keys = {"region": new.region, "account": new.account, "bucket": new.bucket, **backend, **new.more}
    lines = [
        f"[environments.{new.name}]",
        *(f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in keys.items()),
    ]
    if new.vpc and new.rnr_bucket != new.bucket:
        lines += ["", f"[environments.{new.name}.stacks.rnr]", f'bucket = "{new.rnr_bucket}"']
    return "\n".join(lines) + "\n"


def refuse_existing(config: Path, name: str) -> None:
    """Raises RefusedError if refinerctl.toml has the environment."""
    if name in tomllib.loads((read_file(config) or b"").decode()).get("environments", {}):
        raise RefusedError(
            f"environment {name} exists already: {config} has [environments.{name}]",
            hint="Choose another name, or edit its files.",
        )


def edit_of(config: Path, new: NewEnvironment) -> FileEdit:
    """The edit that adds the section to refinerctl.toml; every other byte stays.

    Raises RefusedError if the file has it already, RefinerctlError for a layout that it cannot be added to.
    """
    before = read_file(config) or b""
    text = before.decode()
    section = section_of(new)
    refuse_existing(config, new.name)
    wanted = tomllib.loads(text)
    after = f"{text.rstrip()}\n\n{section}" if text.strip() else section
    wanted.setdefault("environments", {}).update(tomllib.loads(section)["environments"])
    if _parsed(after) != wanted:
        raise RefinerctlError(
            f"{config} cannot be extended automatically: its environments are not written as tables",
            hint="Write them as tables, like [environments.production], or add the section by hand.",
        )
    return FileEdit(config, before, after.encode())


def _parsed(text: str) -> object:
    """None if the text is not valid."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def check_folder(folder: Path, files: Mapping[str, str]) -> None:
    """Raises RefusedError if the folder has other files than those of an interrupted run with the same answers."""
    if not folder.exists():
        return
    found = {path.name: read_file(path) for path in folder.iterdir() if path.is_file()} if folder.is_dir() else {}
    if found == {name: text.encode() for name, text in files.items()}:
        return
    other = next((name for name in sorted(found) if found[name] != files.get(name, "").encode()), None)
    raise RefusedError(
        f"{folder / other if other else folder} exists already, with other content",
        hint="Choose another name, or move the folder away.",
    )


def write_environment(folder: Path, files: Mapping[str, str], edit: FileEdit) -> None:
    """Write the folder, then the section that makes it an environment. What is interrupted can be run again."""
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        for left in folder.parent.glob(f".{folder.name}.new-*"):  # by a killed run
            shutil.rmtree(left, ignore_errors=True)
        try:
            temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.new-", dir=folder.parent))
            _fill(temporary, files)
            temporary.rename(folder)
        except OSError as error:
            raise RefinerctlError(f"cannot write {folder}: {error.strerror}") from error
    edit.write()


def _fill(folder: Path, files: Mapping[str, str]) -> None:
    try:
        for name, text in files.items():
            with (folder / name).open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        folder.chmod(0o755)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def split_names(text: str) -> tuple[str, ...]:
    """IDs or names of subnets, with commas in between. Raises UsageError for an invalid one."""
    return tuple(check_network(part.strip()) for part in text.split(","))
