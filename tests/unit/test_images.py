"""References, manifests, what a service will run, and what copying says about them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.images import (
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    CopyStatus,
    ImageCopy,
    ImageReference,
    Manifest,
    Platform,
    RunsOn,
    check_tag,
    config_created,
    config_platform,
    digest_of,
    is_digest,
    newest_first,
    parse_manifest,
    release_order,
    unacceptable,
)
from refinerctl.registry.copies import CopyRequest, choose_platform, dotenv, pass_gate, tags_from

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
DIGEST = "sha256:" + "0123456789abcdef" * 4
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


@pytest.mark.parametrize(
    ("text", "registry", "repository", "tag", "digest"),
    [
        ("alpine", None, "alpine", None, None),
        ("library/alpine:3.20", None, "library/alpine", "3.20", None),
        ("ghcr.io/o/i:v1", "ghcr.io", "o/i", "v1", None),
        ("localhost/i", "localhost", "i", None, None),
        ("localhost:5000/a/b-c__d.e:v1", "localhost:5000", "a/b-c__d.e", "v1", None),
        ("127.0.0.1:5000/i", "127.0.0.1:5000", "i", None, None),
        ("[::1]:5000/i:v1", "[::1]:5000", "i", "v1", None),
        (f"ghcr.io/o/i@{DIGEST}", "ghcr.io", "o/i", None, DIGEST),
        (f"ghcr.io/o/i:v1@{DIGEST}", "ghcr.io", "o/i", "v1", DIGEST),
    ],
)
def test_references(text: str, registry: str | None, repository: str, tag: str | None, digest: str | None) -> None:
    parsed = ImageReference.parse(text)

    assert parsed == ImageReference(repository, registry, tag, digest)
    assert str(parsed) == text
    assert parsed.at(DIGEST) == f"{parsed.name}@{DIGEST}"


@pytest.mark.parametrize(
    "text",
    ["", "UPPER", "a//b", "/a", "a/", "a:", "a:-x", "a@sha256:12", "ghcr.io/", "a b", "a:v1\n", "http://a/b", "a..b"],
)  # fmt: skip
def test_no_references(text: str) -> None:
    with pytest.raises(UsageError):
        ImageReference.parse(text)


@given(st.text(max_size=40))
def test_what_is_parsed_is_written_the_same(text: str) -> None:
    try:
        parsed = ImageReference.parse(text)
    except UsageError:
        return
    assert str(parsed) == text


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("123456789012.dkr.ecr.eu-west-1.amazonaws.com", ("123456789012", "eu-west-1")),
        ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", ("123456789012", "us-gov-west-1")),
        ("123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn", ("123456789012", "cn-north-1")),
        ("ghcr.io", None),
        ("123456789012.dkr-ecr.us-west-2.on.aws", ("123456789012", "us-west-2")),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.com.evil.example", None),
        ("123456789012.dkr.ecr.us-east-1.amazonaws.evil.example", None),
        ("public.ecr.aws", None),
        (None, None),
    ],
)
def test_ecr_by_its_name(host: str | None, expected: tuple[str, str] | None) -> None:
    assert ImageReference("a", host).ecr == expected


def test_tags_and_digests() -> None:
    assert check_tag("v1.2.3_x-y") == "v1.2.3_x-y"
    for wrong in ("", "-x", ".x", "a b", "x" * 129, "ä"):
        with pytest.raises(UsageError):
            check_tag(wrong)
    assert is_digest(digest_of(b""))
    assert not is_digest(DIGEST.upper())
    assert not is_digest(f"{DIGEST}0")


def test_releases_sort_by_version() -> None:
    """The example of https://semver.org, section 11, among others."""
    ordered = ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11"]
    ordered += ["1.0.0-rc.1", "1.0.0", "v1.2.0", "v1.10.0", "v2.0.0-rc1", "v2.0.0"]

    assert newest_first([*sorted(ordered), "main", "latest"]) == [*reversed(ordered), "latest", "main"]
    assert release_order("v1.2") is None
    assert tags_from(["v1.0.0", "latest", "v1.10.0", "v1.9.0", "v1.9.0-rc1"], "v1.9.0") == ["v1.9.0", "v1.10.0"]
    with pytest.raises(UsageError):
        tags_from(["v1.0.0"], "latest")


def image(*layers: dict[str, Any], media_type: str = OCI_MANIFEST, **config: Any) -> Manifest:
    described = {"mediaType": CONFIG_TYPE, "digest": digest_of(b"config"), "size": 6, **config}
    return parse_manifest(json.dumps({"config": described, "layers": layers}).encode(), media_type)


def layer(media_type: str = GZIP, name: str = "layer", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(name.encode()), "size": 5, **more}


def config(platform: Platform = AMD) -> bytes:
    return json.dumps({"os": platform.os, "architecture": platform.architecture}).encode()


def test_a_manifest_keeps_its_bytes() -> None:
    raw = json.dumps({"config": layer(CONFIG_TYPE, "c"), "layers": [layer(), layer(), layer(name="other")]}).encode()

    parsed = parse_manifest(raw, f"{DOCKER_MANIFEST}; charset=utf-8")

    assert (parsed.raw, parsed.digest, parsed.media_type) == (raw, digest_of(raw), DOCKER_MANIFEST)
    assert len(parsed.layers) == 3
    assert [blob.digest for blob in parsed.blobs] == [digest_of(name) for name in (b"c", b"layer", b"other")]
    assert parsed.size == 15


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b"[]",
        b'{"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}',
        json.dumps({"mediaType": OCI_MANIFEST, "layers": []}).encode(),
        json.dumps(
            {"mediaType": OCI_INDEX, "manifests": [{"mediaType": "x", "digest": "../../x", "size": 1}]}
        ).encode(),
        json.dumps({"mediaType": OCI_INDEX, "manifests": [{"mediaType": "x", "digest": DIGEST, "size": -1}]}).encode(),
        b"[" * 100_000,
    ],
)
def test_no_manifests(document: bytes) -> None:
    with pytest.raises(RefinerctlError):
        parse_manifest(document, "text/plain")


def index(media_type: str = OCI_INDEX, *entries: dict[str, Any]) -> Manifest:
    return parse_manifest(json.dumps({"mediaType": media_type, "manifests": entries}).encode(), "")


def entry(name: str, platform: Platform, **more: Any) -> dict[str, Any]:
    described = {"os": platform.os, "architecture": platform.architecture}
    return layer(OCI_MANIFEST, name, platform=described, **more)


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_one_platform_of_an_index(media_type: str) -> None:
    attestation = {"vnd.docker.reference.type": "attestation-manifest"}
    found = index(
        media_type,
        entry("disguised", AMD, annotations=attestation),
        entry("amd", AMD),
        entry("arm", ARM),
        entry("attestation", Platform("unknown", "unknown"), annotations=attestation),
    )

    assert choose_platform(found, ARM, "x").digest == digest_of(b"arm")
    assert choose_platform(found, AMD, "x").digest == digest_of(b"amd")
    with pytest.raises(RefusedError) as refused:
        choose_platform(found, Platform("windows", "amd64"), "x:v1")
    assert refused.value.hint == "Its platforms: linux/amd64, linux/arm64."
    with pytest.raises(RefusedError) as refused:
        choose_platform(index(), AMD, "x:v1")
    assert refused.value.hint == "Its platforms: none."


@pytest.mark.parametrize(
    ("manifest", "runs_on", "words"),
    [
        (image(layer()), RunsOn.LAMBDA, ""),
        (image(layer("application/vnd.docker.image.rootfs.diff.tar")), RunsOn.LAMBDA, ""),
        (image(layer("application/vnd.oci.image.layer.v1.tar+zstd")), RunsOn.ECS, ""),
        (image(layer("application/vnd.oci.image.layer.v1.tar+zstd")), RunsOn.LAMBDA, "tar+zstd"),
        (image(layer("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")), RunsOn.ECS, "foreign"),
        (image(layer(urls=["https://foreign.example"])), RunsOn.ECS, "foreign"),
        (image(layer(size=11 * 1024**3)), RunsOn.LAMBDA, "11.8 GB uncompressed"),
        (image(layer(size=11 * 1024**3)), RunsOn.ECS, ""),
        (
            image(layer(annotations={"io.containers.estargz.uncompressed-size": str(11 * 1024**3)})),
            RunsOn.LAMBDA,
            "GB uncompressed",
        ),
        (image(layer(), mediaType="application/vnd.cncf.helm.config.v1+json"), RunsOn.ECS, "not a container image's"),
        (index(), RunsOn.LAMBDA, "index"),
    ],
)
def test_what_a_service_takes(manifest: Manifest, runs_on: RunsOn, words: str) -> None:
    problems = "; ".join(unacceptable(manifest, config(), runs_on, AMD))

    assert words in problems
    assert bool(words) == bool(problems)


def test_the_architecture_counts() -> None:
    assert unacceptable(image(layer()), config(ARM), RunsOn.LAMBDA, AMD) == (
        "it is built for linux/arm64, not for linux/amd64",
    )
    assert unacceptable(image(layer()), None, RunsOn.LAMBDA, ARM) == ()
    with pytest.raises(RefinerctlError):
        config_platform(b"{}")


def request(runs_on: RunsOn | None) -> CopyRequest:
    return CopyRequest("x", ImageReference("a", "here"), ImageReference("b", "there", "v1"), AMD, runs_on)


def test_the_gate() -> None:
    pass_gate(request(None), index(), None)
    pass_gate(request(RunsOn.LAMBDA), image(layer()), config())
    with pytest.raises(RefusedError, match="Lambda would not run here/a: it is built for linux/arm64") as refused:
        pass_gate(request(RunsOn.LAMBDA), image(layer()), config(ARM))
    assert "--no-gate" in (refused.value.hint or "")


@pytest.mark.parametrize(
    ("created", "expected"),
    [
        ("2026-03-01T14:02:00Z", datetime(2026, 3, 1, 14, 2, tzinfo=UTC)),
        ("2026-03-01T14:02:00.123456789+02:00", datetime(2026, 3, 1, 12, 2, 0, 123456, tzinfo=UTC)),
        ("2026-03-01T14:02:00", datetime(2026, 3, 1, 14, 2, tzinfo=UTC)),
        ("long ago", None),
        (None, None),
    ],
)
def test_when_an_image_was_built(created: str | None, expected: datetime | None) -> None:
    assert config_created(json.dumps({"created": created}).encode()) == expected


def copied(name: str, digest: str = DIGEST, target: str | None = DIGEST) -> ImageCopy:
    return ImageCopy(name, "s/a:v1", "t.example/a:v1", digest, target, None, CopyStatus.COPIED)


def test_variables_for_the_next_job() -> None:
    other = DIGEST.replace("0", "f")

    assert dotenv([copied("refiner"), copied("post-process.2", other, None)]) == (
        f"IMAGE_REFINER=t.example/a@{DIGEST}\nIMAGE_POST_PROCESS_2=t.example/a@{other}\n"
    )
    with pytest.raises(RefinerctlError, match="IMAGE_A_B would stand for two images"):
        dotenv([copied("a-b"), copied("a_b", other, other)])
