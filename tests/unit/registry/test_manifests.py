"""Manifests and configs, and which images a service runs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from refinerctl.errors import RefinerctlError, RefusedError
from refinerctl.images import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, ImageReference, Platform, RunsOn
from refinerctl.registry.copies import CopyRequest, choose_platform
from refinerctl.registry.manifests import (
    Manifest,
    config_base,
    config_created,
    config_platform,
    digest_of,
    parse_manifest,
    unacceptable,
)

AMD, ARM = Platform("linux", "amd64"), Platform("linux", "arm64")
DIGEST = "sha256:" + "0123456789abcdef" * 4
CONFIG_TYPE = "application/vnd.oci.image.config.v1+json"
GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"


def image(*layers: dict[str, Any], media_type: str = OCI_MANIFEST, **config: Any) -> Manifest:
    described = {"mediaType": CONFIG_TYPE, "digest": digest_of(b"config"), "size": 6, **config}
    return parse_manifest(json.dumps({"config": described, "layers": layers}).encode(), media_type)


def layer(media_type: str = GZIP, name: str = "layer", **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(name.encode()), "size": 5, **more}


def config(platform: Platform = AMD) -> bytes:
    return json.dumps({"os": platform.os, "architecture": platform.architecture}).encode()


def test_manifest_keeps_its_bytes() -> None:
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
def test_invalid_manifests(document: bytes) -> None:
    with pytest.raises(RefinerctlError):
        parse_manifest(document, "text/plain")


def index(media_type: str = OCI_INDEX, *entries: dict[str, Any]) -> Manifest:
    return parse_manifest(json.dumps({"mediaType": media_type, "manifests": entries}).encode(), "")


def entry(name: str, platform: Platform, **more: Any) -> dict[str, Any]:
    described = {"os": platform.os, "architecture": platform.architecture}
    return layer(OCI_MANIFEST, name, platform=described, **more)


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_platforms_of_an_index(media_type: str) -> None:
    attestation = {"vnd.docker.reference.type": "attestation-manifest"}
    found = index(
        media_type,
        entry("disguised", AMD, annotations=attestation),
        entry("amd", AMD),
        entry("arm", ARM),
        entry("attestation", Platform("unknown", "unknown"), annotations=attestation),
    )

    assert choose_platform(found, request(None, ARM)).digest == digest_of(b"arm")
    assert choose_platform(found, request(None, AMD)).digest == digest_of(b"amd")
    with pytest.raises(RefusedError) as refused:
        choose_platform(found, request(None, Platform("windows", "amd64")))
    assert refused.value.hint == "Its platforms: linux/amd64, linux/arm64."
    with pytest.raises(RefusedError) as refused:
        choose_platform(index(), request(None, AMD))
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
def test_images_that_a_service_runs(manifest: Manifest, runs_on: RunsOn, words: str) -> None:
    problems = "; ".join(unacceptable(manifest, config(), runs_on, AMD))

    assert words in problems
    assert bool(words) == bool(problems)


def test_architecture() -> None:
    assert unacceptable(image(layer()), config(ARM), RunsOn.LAMBDA, AMD) == (
        "it is built for linux/arm64, not for linux/amd64",
    )
    assert unacceptable(image(layer()), None, RunsOn.LAMBDA, ARM) == ()
    with pytest.raises(RefinerctlError):
        config_platform(b"{}")


def request(runs_on: RunsOn | None, platform: Platform = AMD) -> CopyRequest:
    return CopyRequest("x", ImageReference("a", "here"), ImageReference("b", "there", "v1"), platform, runs_on)


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
def test_build_time(created: str | None, expected: datetime | None) -> None:
    assert config_created(json.dumps({"created": created}).encode()) == expected


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ({"name": "a/base:1", "digest": DIGEST}, f"a/base:1@{DIGEST}"),
        ({"name": f"a/base:1@{DIGEST}", "digest": DIGEST}, f"a/base:1@{DIGEST}"),
        ({"name": f"a/base:1@{DIGEST}", "digest": ""}, f"a/base:1@{DIGEST}"),
        ({"name": "a/base:1", "digest": ""}, "a/base:1"),
        ({"digest": DIGEST}, DIGEST),
        ({"name": "", "digest": ""}, None),
        ({}, None),
    ],
)
def test_base_image(labels: dict[str, str], expected: str | None) -> None:
    named = {f"org.opencontainers.image.base.{name}": value for name, value in labels.items()}
    assert config_base(json.dumps({"config": {"Labels": named}}).encode()) == expected


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": null}', '{"config": {"Labels": null}}', "[" * 100_000])
def test_config_without_labels_names_no_base_image(text: str) -> None:
    assert config_base(text.encode()) is None
