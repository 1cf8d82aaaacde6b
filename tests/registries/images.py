"""Images of many kinds, put straight into a registry, and read back whole. Knows nothing of refinerctl's own code."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import random
import struct
import subprocess
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urljoin

import urllib3

from tests.needs import needs_program
from tests.registries.docker_registry import DockerRegistry

OCI = "application/vnd.oci.image"
DOCKER = "application/vnd.docker"
_TYPES: dict[str, dict[str, str]] = {
    "oci": {
        "manifest": f"{OCI}.manifest.v1+json",
        "index": f"{OCI}.index.v1+json",
        "config": f"{OCI}.config.v1+json",
        "gzip": f"{OCI}.layer.v1.tar+gzip",
        "plain": f"{OCI}.layer.v1.tar",
        "zstd": f"{OCI}.layer.v1.tar+zstd",
        "foreign": f"{OCI}.layer.nondistributable.v1.tar+gzip",
    },
    "docker": {
        "manifest": f"{DOCKER}.distribution.manifest.v2+json",
        "index": f"{DOCKER}.distribution.manifest.list.v2+json",
        "config": f"{DOCKER}.container.image.v1+json",
        "gzip": f"{DOCKER}.image.rootfs.diff.tar.gzip",
        "plain": f"{DOCKER}.image.rootfs.diff.tar",
        "foreign": f"{DOCKER}.image.rootfs.foreign.diff.tar.gzip",
    },
}
ACCEPT = ", ".join(types[kind] for types in _TYPES.values() for kind in ("manifest", "index"))

_http = urllib3.PoolManager(retries=False)


@dataclass(frozen=True)
class MadeBlob:
    digest: str
    size: int


@dataclass(frozen=True)
class MadeImage:
    """An image or an index in a registry; an index has `children`, an image `config` and `layers`."""

    registry: DockerRegistry
    repository: str
    tag: str
    digest: str
    media_type: str
    raw: bytes
    config: MadeBlob | None = None
    layers: tuple[MadeBlob, ...] = ()
    children: tuple[MadeImage, ...] = ()

    @property
    def name(self) -> str:
        """Registry and repository."""
        return f"{self.registry.host}/{self.repository}"

    @property
    def reference(self) -> str:
        return f"{self.name}:{self.tag}"

    @property
    def blobs(self) -> tuple[MadeBlob, ...]:
        return (self.config, *self.layers) if self.config else self.layers


@dataclass(frozen=True)
class Layer:
    """A layer with one file of `size` random bytes. `packed`: gzip, plain, zstd or foreign (which is not uploaded)."""

    size: int = 1000
    packed: str = "gzip"
    seed: int = 0


def digest_of(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def push_image(
    registry: DockerRegistry,
    repository: str,
    tag: str = "v1",
    *,
    kind: str = "oci",
    layers: Sequence[Layer] = (Layer(seed=1), Layer(seed=2)),
    architecture: str = "amd64",
    created: str | None = "2024-01-01T00:00:00Z",
) -> MadeImage:
    """Make an image and push it; with an empty `tag` by digest only. The same arguments make the same bytes."""
    types, made, diff_ids, descriptors = _TYPES[kind], [], [], []
    for number, layer in enumerate(layers):
        packed, diff_id = _packed(layer, f"layer-{number}.bin")
        diff_ids.append(diff_id)
        descriptor = _descriptor(types[layer.packed], packed)
        if layer.packed == "foreign":
            descriptor["urls"] = [f"https://foreign.example/{diff_id}"]
        else:
            push_blob(registry, repository, packed)
        descriptors.append(descriptor)
        made.append(MadeBlob(descriptor["digest"], len(packed)))
    config = json.dumps(_config(architecture, diff_ids, created)).encode()
    push_blob(registry, repository, config)
    document = {
        "schemaVersion": 2,
        "mediaType": types["manifest"],
        "config": _descriptor(types["config"], config),
        "layers": descriptors,
    }
    raw = json.dumps(document, indent=3).encode()  # unlike what a client would make of it by writing it anew
    digest = push_manifest(registry, repository, tag, raw, types["manifest"])
    made_config = MadeBlob(digest_of(config), len(config))
    return MadeImage(registry, repository, tag, digest, types["manifest"], raw, made_config, tuple(made))


def push_index(
    registry: DockerRegistry,
    repository: str,
    tag: str = "v1",
    layers: Sequence[Layer] = (Layer(seed=1), Layer(seed=2)),
) -> MadeImage:
    """Make an index as buildx does: one image for amd64 and for arm64, and for each a manifest of attestations."""
    media_type, children, entries = _TYPES["oci"]["index"], [], []
    for number, architecture in enumerate(("amd64", "arm64")):
        own = [Layer(layer.size, layer.packed, layer.seed + 100 * number) for layer in layers]
        image = push_image(registry, repository, "", layers=own, architecture=architecture)
        children.append(image)
        entries.append(_entry(image, {"os": "linux", "architecture": architecture}))
    for image in list(children):
        attestation = _push_attestation(registry, repository, image)
        children.append(attestation)
        notes = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": image.digest}
        entries.append({**_entry(attestation, {"os": "unknown", "architecture": "unknown"}), "annotations": notes})
    raw = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": entries}, indent=3).encode()
    digest = push_manifest(registry, repository, tag, raw, media_type)
    return MadeImage(registry, repository, tag, digest, media_type, raw, children=tuple(children))


def _entry(image: MadeImage, platform: dict[str, str]) -> dict[str, Any]:
    return {"mediaType": image.media_type, "digest": image.digest, "size": len(image.raw), "platform": platform}


def _push_attestation(registry: DockerRegistry, repository: str, image: MadeImage) -> MadeImage:
    types = _TYPES["oci"]
    statement = json.dumps({"subject": image.digest, "predicateType": "https://slsa.dev/provenance/v0.2"}).encode()
    config = json.dumps({"architecture": "unknown", "os": "unknown", "config": {}}).encode()
    for blob in (statement, config):
        push_blob(registry, repository, blob)
    document = {
        "schemaVersion": 2,
        "mediaType": types["manifest"],
        "config": _descriptor(types["config"], config),
        "layers": [_descriptor("application/vnd.in-toto+json", statement)],
    }
    raw = json.dumps(document).encode()
    digest = push_manifest(registry, repository, "", raw, types["manifest"])
    return MadeImage(registry, repository, "", digest, types["manifest"], raw)


def push_artifact(
    registry: DockerRegistry,
    repository: str,
    tag: str,
    artifact_type: str,
    subject: str | None = None,
    *,
    content: bytes | None = None,
    listed_as: str | None = None,
) -> MadeImage:
    """Make an artifact such as a signature with `content`; with `subject` under the tag that lists what is about it.

    `listed_as`: the artifact type in that list, if another one.
    """
    types = _TYPES["oci"]
    empty = push_blob(registry, repository, b"{}")
    document: dict[str, Any] = {
        "schemaVersion": 2,
        "mediaType": types["manifest"],
        "artifactType": artifact_type,
        "config": {"mediaType": "application/vnd.oci.empty.v1+json", "digest": empty, "size": 2},
        "layers": [],
    }
    if content is not None:
        push_blob(registry, repository, content)
        document["layers"] = [_descriptor(artifact_type, content)]
    if subject:
        document["subject"] = {"mediaType": types["manifest"], "digest": subject, "size": 1}
    raw = json.dumps(document).encode()
    digest = push_manifest(registry, repository, "" if subject else tag, raw, types["manifest"])
    if subject:
        entries = listed(registry, repository, tag)
        entries.append(
            {
                "mediaType": types["manifest"],
                "digest": digest,
                "size": len(raw),
                "artifactType": listed_as or artifact_type,
            }
        )
        index = json.dumps({"schemaVersion": 2, "mediaType": types["index"], "manifests": entries}).encode()
        push_manifest(registry, repository, tag, index, types["index"])
    return MadeImage(registry, repository, tag, digest, types["manifest"], raw)


def listed(registry: DockerRegistry, repository: str, tag: str) -> list[dict[str, Any]]:
    """The entries of the index at `tag`; none without the tag."""
    answer = _get(registry, repository, f"manifests/{tag}")
    entries: list[dict[str, Any]] = json.loads(answer.data)["manifests"] if answer.status == 200 else []
    return entries


def _descriptor(media_type: str, content: bytes) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": digest_of(content), "size": len(content)}


def _config(architecture: str, diff_ids: list[str], created: str | None) -> dict[str, Any]:
    return {
        **({"created": created} if created else {}),
        "architecture": architecture,
        "os": "linux",
        "config": {"Cmd": ["/bin/true"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [{"created": "2024-01-01T00:00:00Z", "created_by": "test"} for _ in diff_ids],
    }


def _packed(layer: Layer, name: str) -> tuple[bytes, str]:
    """The layer as the registry stores it, and the digest of its content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        entry = tarfile.TarInfo(name)
        entry.size = layer.size
        tar.addfile(entry, io.BytesIO(random.Random(f"{layer.seed} {name}").randbytes(layer.size)))  # noqa: S311
    plain = buffer.getvalue()
    if layer.packed == "plain":
        return plain, digest_of(plain)
    if layer.packed == "zstd":
        return _zstd(plain), digest_of(plain)
    return gzip.compress(plain, compresslevel=0, mtime=0), digest_of(plain)  # random bytes do not get smaller


def _zstd(content: bytes) -> bytes:
    """A zstd frame of raw blocks, RFC 8878, section 3.1.1: magic, no flags, a window of 128 kB, blocks."""
    pieces = [content[start : start + (1 << 17)] for start in range(0, len(content), 1 << 17)]
    frame = [b"\x28\xb5\x2f\xfd\x00\x38"]
    for number, piece in enumerate(pieces, 1):
        frame += [struct.pack("<I", len(piece) << 3 | (number == len(pieces)))[:3], piece]
    return b"".join(frame)


def push_blob(registry: DockerRegistry, repository: str, content: bytes) -> str:
    headers, digest = registry.headers(repository), digest_of(content)
    started = _http.request("POST", f"{registry.url}/v2/{repository}/blobs/uploads/", headers=headers)
    assert started.status == 202, started.data
    location = urljoin(registry.url, started.headers["Location"])
    joint = "&" if "?" in location else "?"
    ended = _http.request("PUT", f"{location}{joint}digest={digest}", body=content, headers=headers)
    assert ended.status == 201, ended.data
    return digest


def push_manifest(registry: DockerRegistry, repository: str, tag: str, raw: bytes, media_type: str) -> str:
    """Returns the digest by the registry's word."""
    url = f"{registry.url}/v2/{repository}/manifests/{tag or digest_of(raw)}"
    headers = {**registry.headers(repository), "Content-Type": media_type}
    answer = _http.request("PUT", url, body=raw, headers=headers)
    assert answer.status == 201, answer.data
    assert answer.headers["Docker-Content-Digest"] == digest_of(raw)
    return digest_of(raw)


def digest_at(registry: DockerRegistry, repository: str, tag: str = "v1") -> str | None:
    """What the tag points at; None without the tag."""
    answer = _get(registry, repository, f"manifests/{tag}")
    return digest_of(answer.data) if answer.status == 200 else None


def delete_manifest(registry: DockerRegistry, repository: str, digest: str) -> None:
    """Also removes the tags that point at it."""
    url = f"{registry.url}/v2/{repository}/manifests/{digest}"
    answer = _http.request("DELETE", url, headers=registry.headers(repository))
    assert answer.status == 202, answer.data


def problems(registry: DockerRegistry, repository: str, reference: str = "v1") -> list[str]:
    """What is missing or wrong of the image that `reference` (tag or digest) points at; empty if it is whole."""
    answer = _get(registry, repository, f"manifests/{reference}")
    if answer.status != 200:
        return [f"manifest {reference}: {answer.status}"]
    found = []
    if reference.startswith("sha256:") and digest_of(answer.data) != reference:
        found.append(f"manifest {reference} is {digest_of(answer.data)}")
    document = json.loads(answer.data)
    for child in document.get("manifests", []):
        found += problems(registry, repository, child["digest"])
    for blob in [*filter(None, [document.get("config")]), *document.get("layers", [])]:
        if not blob.get("urls"):
            found += _blob_problems(registry, repository, blob)
    return found


def whole(registry: DockerRegistry, repository: str, tag: str = "v1") -> str:
    """The digest of an image by skopeo, after every blob of it has been read."""
    assert problems(registry, repository, tag) == []
    credentials = f"{registry.user}:{registry.password}" if registry.user else None
    return skopeo_inspect(f"{registry.host}/{repository}:{tag}", credentials)


def skopeo_inspect(reference: str, credentials: str | None = None) -> str:
    """The digest of what `reference` points at, by an independent reader; `credentials` are "user:password"."""
    needs_program("skopeo", "skopeo")
    known = ["--creds", credentials] if credentials else ["--no-creds"]
    command = ["skopeo", "inspect", "--raw", "--tls-verify=false", *known, f"docker://{reference}"]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr.decode()
    return digest_of(done.stdout)


def _blob_problems(registry: DockerRegistry, repository: str, blob: dict[str, Any]) -> list[str]:
    answer = _get(registry, repository, f"blobs/{blob['digest']}")
    if answer.status != 200:
        return [f"blob {blob['digest']}: {answer.status}"]
    whole = digest_of(answer.data) == blob["digest"] and len(answer.data) == blob["size"]
    return [] if whole else [f"blob {blob['digest']} has other bytes"]


def _get(registry: DockerRegistry, repository: str, path: str) -> urllib3.BaseHTTPResponse:
    headers = {**registry.headers(repository), "Accept": ACCEPT}
    return _http.request("GET", f"{registry.url}/v2/{repository}/{path}", headers=headers)
