"""What of a source is not copied with an image: signatures, attestations and other artifacts about it."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from refinerctl.registry.attachments import Attachment
from tests.integration.registry.copying import QUICK, Copier
from tests.registries.faulty_proxy import Fault, Kind
from tests.registries.fixtures import Site
from tests.registries.images import digest_at, push_artifact, push_index

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"


def tag_of(digest: str, suffix: str = "") -> str:
    return digest.replace(":", "-") + suffix


@pytest.mark.parametrize(("suffix", "kind"), [(".sig", "signature"), (".att", "attestation"), (".sbom", "SBOM")])
def test_what_cosign_stored_under_a_tag_is_named(site: Site, suffix: str, kind: str) -> None:
    image = site.push()
    tag = tag_of(image.digest, suffix)
    push_artifact(site.source, site.repository, tag, "application/vnd.dev.cosign")

    done = Copier()(image.reference, site.there)

    assert done.not_copied == (Attachment(kind, f"{image.name}:{tag}", image.digest),)
    assert digest_at(site.target, site.repository, tag) is None


def test_referrers_under_the_tag_that_replaces_the_api_are_named(site: Site) -> None:
    image = site.push()
    bundle = push_artifact(site.source, site.repository, tag_of(image.digest), BUNDLE, image.digest)

    done = Copier()(image.reference, site.there)

    assert done.not_copied == (Attachment(BUNDLE, f"{image.name}@{bundle.digest}", image.digest),)


def test_referrers_of_the_api_are_named(site: Site) -> None:
    image = site.push()
    digest = "sha256:" + "a" * 64
    listed = json.dumps({"manifests": [{"digest": digest, "mediaType": "x", "artifactType": BUNDLE}]}).encode()
    source = site.faulty(site.source, Fault(Kind.STATUS, match="GET .*/referrers/", status=200, body=listed))

    done = Copier()(f"{source.host}/{site.repository}:v1", site.there)

    assert done.not_copied == (Attachment(BUNDLE, f"{source.host}/{site.repository}@{digest}", image.digest),)
    assert source.matching(f"/manifests/{tag_of(image.digest)}$") == []


def test_attestations_of_an_index_and_signatures_of_it_are_named(site: Site) -> None:
    index = push_index(site.source, site.repository)
    image, attestation = index.children[0], index.children[2]
    tag = tag_of(index.digest, ".sig")
    push_artifact(site.source, site.repository, tag, "application/vnd.dev.cosign")
    source = site.faulty(site.source)

    done = Copier()(f"{source.host}/{site.repository}:v1", site.there)

    name = f"{source.host}/{site.repository}"
    assert done.not_copied == (
        Attachment("attestation", f"{name}@{attestation.digest}", image.digest),
        Attachment("signature", f"{name}:{tag}", index.digest),
    )
    assert len(source.matching(r"/referrers/|/manifests/sha256-")) == 10  # 5 for each of the two digests


def test_image_without_any_says_so(site: Site) -> None:
    assert Copier()(site.push().reference, site.there).not_copied == ()


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (Fault(Kind.STATUS, match="/referrers/", status=403, times=None), "does not let anonymous users pull"),
        (Fault(Kind.STATUS, match="/referrers/", status=503, times=None), "returned 503"),
        (Fault(Kind.STATUS, match="/referrers/", status=200, body=b"[" * 9999, times=None), "cannot be read"),
        (Fault(Kind.STATUS, match="/referrers/", status=200, body=b'{"manifests": [1]}', times=None), "cannot be read"),
    ],
)
def test_failed_lookup_is_a_note_beside_what_was_found(site: Site, fault: Fault, words: str) -> None:
    image = site.push()
    tag = tag_of(image.digest, ".sig")
    push_artifact(site.source, site.repository, tag, "application/vnd.dev.cosign")
    source, copier = site.faulty(site.source, fault), Copier()

    done = copier(f"{source.host}/{site.repository}:v1", site.there)

    assert done.not_copied == (Attachment("signature", f"{source.host}/{site.repository}:{tag}", image.digest),)
    (note,) = done.notes
    assert words in note
    assert copier.told == []  # it is tried once
    assert site.whole() == image.digest


def test_slow_lookup_does_not_delay_the_copy(site: Site) -> None:
    image = site.push()
    slow = Fault(Kind.STALL, match=r"/referrers/|/manifests/sha256-", seconds=3600, times=None)
    source = site.faulty(site.source, slow)
    began = time.monotonic()

    done = Copier(limits=replace(QUICK, read_timeout_s=60), attachments_s=0.3)(
        f"{source.host}/{site.repository}:v1", site.there
    )

    assert time.monotonic() - began < 20
    assert (done.status, done.not_copied) == ("copied", None)
    assert "may be incomplete: no answer within 0.3 s" in done.notes[0]
    assert site.whole() == image.digest
