"""Signatures, attestations and other artifacts: what is copied with an image, and what is not."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from refinerctl.errors import RefinerctlError
from refinerctl.registry.attachments import Attachment, LeftAttachment
from tests.integration.registry.copying import QUICK, Copier
from tests.registries.faulty_proxy import Fault, Kind
from tests.registries.fixtures import Site
from tests.registries.images import digest_at, listed, problems, push_artifact, push_index

BUNDLE = "application/vnd.dev.sigstore.bundle.v0.3+json"
COSIGN = "application/vnd.dev.cosign.simplesigning.v1+json"
INDEX = "it refers to the index, which is not copied"


def patient(attachments_s: float = 60) -> Copier:
    """On a busy machine, too, a lookup gets its answer: it is tried once."""
    return Copier(limits=replace(QUICK, read_timeout_s=60), attachments_s=attachments_s)


def tag_of(digest: str, suffix: str = "") -> str:
    return digest.replace(":", "-") + suffix


@pytest.mark.parametrize(("suffix", "kind"), [(".sig", "signature"), (".att", "attestation"), (".sbom", "SBOM")])
def test_cosign_tags_are_copied(site: Site, suffix: str, kind: str) -> None:
    image = site.push()
    tag = tag_of(image.digest, suffix)
    artifact = push_artifact(site.source, site.repository, tag, COSIGN, content=b"signed")

    done = patient()(image.reference, site.there)

    assert (done.attachments, done.not_copied) == ((Attachment(kind, f"{site.there}:{tag}", image.digest),), ())
    assert digest_at(site.target, site.repository, tag) == artifact.digest
    assert problems(site.target, site.repository, tag) == []


def test_referrers_are_copied_and_listed_under_the_tag_that_replaces_the_api(site: Site) -> None:
    image = site.push()
    tag = tag_of(image.digest)
    bundles = [
        push_artifact(site.source, site.repository, tag, BUNDLE, image.digest, content=content)
        for content in (b"one", b"two")
    ]
    own = push_artifact(site.target, site.repository, tag, "application/spdx+json", image.digest, content=b"own")

    done = patient()(image.reference, site.there)

    digests = [bundle.digest for bundle in bundles]
    assert done.not_copied == ()
    assert done.attachments == tuple(Attachment(BUNDLE, f"{site.there}@{digest}", image.digest) for digest in digests)
    entries = listed(site.target, site.repository, tag)
    assert [entry["digest"] for entry in entries] == [own.digest, *digests]
    assert entries[1:] == listed(site.source, site.repository, tag)
    assert [problems(site.target, site.repository, digest) for digest in digests] == [[], []]


def test_referrers_of_the_api_are_copied_without_a_list(site: Site) -> None:
    """Both registries have the API, as ECR has."""
    image = site.push()
    bundle = push_artifact(site.source, site.repository, tag_of(image.digest), BUNDLE, image.digest, content=b"one")
    entry = {"digest": bundle.digest, "mediaType": "x", "artifactType": BUNDLE}
    body = json.dumps({"manifests": [entry]}).encode()
    api = Fault(Kind.STATUS, match="GET .*/referrers/", status=200, body=body, times=None)
    source, target = site.faulty(site.source, api), site.faulty(site.target, api)

    done = patient()(f"{source.host}/{site.repository}:v1", f"{target.host}/{site.repository}")

    assert done.attachments == (Attachment(BUNDLE, f"{target.host}/{site.repository}@{bundle.digest}", image.digest),)
    assert problems(site.target, site.repository, bundle.digest) == []
    assert digest_at(site.target, site.repository, tag_of(image.digest)) is None
    assert source.matching(f"/manifests/{tag_of(image.digest)}$") == []


def test_target_that_refuses_artifacts_gets_the_image(site: Site) -> None:
    """ECR answers some with 405."""
    image = site.push()
    bundle = push_artifact(site.source, site.repository, tag_of(image.digest), BUNDLE, image.digest, content=b"one")
    body = b'{"errors": [{"code": "UNSUPPORTED", "message": "Invalid parameter"}]}'
    fault = Fault(Kind.STATUS, match=f"PUT .*/manifests/{bundle.digest}", status=405, body=body, times=None)
    target = site.faulty(site.target, fault)

    done = patient()(image.reference, f"{target.host}/{site.repository}")

    assert (done.status, done.attachments) == ("copied", ())
    (left,) = done.not_copied or ()
    assert (left.reference, left.subject) == (f"{image.name}@{bundle.digest}", image.digest)
    assert left.reason.endswith("failed: 405 UNSUPPORTED: Invalid parameter")
    assert site.whole() == image.digest
    assert digest_at(site.target, site.repository, tag_of(image.digest)) is None


def test_copied_artifact_that_cannot_be_listed_is_reported(site: Site) -> None:
    """A registry without the API whose tags are immutable."""
    image = site.push()
    push_artifact(site.source, site.repository, tag_of(image.digest), BUNDLE, image.digest, content=b"one")
    fault = Fault(Kind.STATUS, match=f"PUT .*/manifests/{tag_of(image.digest)}", status=400, times=None)
    target = site.faulty(site.target, fault)

    done = patient()(image.reference, f"{target.host}/{site.repository}")

    assert done.attachments == ()
    assert (done.not_copied or ())[0].reason.startswith("copied, but not listed in the target: ")
    assert site.whole() == image.digest


def test_signature_in_the_target_is_kept(site: Site) -> None:
    image = site.push()
    tag = tag_of(image.digest, ".sig")
    push_artifact(site.source, site.repository, tag, COSIGN, content=b"theirs")
    ours = push_artifact(site.target, site.repository, tag, COSIGN, content=b"ours")

    done = patient()(image.reference, site.there)

    assert [item.reason for item in done.not_copied or ()] == ["the target's tag has other content, which is kept"]
    assert digest_at(site.target, site.repository, tag) == ours.digest


def test_copy_that_is_interrupted_before_the_tag_copies_them_again(site: Site) -> None:
    image = site.push()
    tag = tag_of(image.digest, ".sig")
    push_artifact(site.source, site.repository, tag, COSIGN, content=b"signed")
    target = site.faulty(site.target, Fault(Kind.STATUS, match="PUT .*/manifests/v1", status=400))

    with pytest.raises(RefinerctlError):
        patient()(image.reference, f"{target.host}/{site.repository}")
    assert site.digest() is None
    done = patient()(image.reference, site.there)

    assert done.attachments == (Attachment("signature", f"{site.there}:{tag}", image.digest),)
    assert site.whole() == image.digest


def test_attachments_of_an_index_are_not_copied(site: Site) -> None:
    index = push_index(site.source, site.repository)
    image, attestation = index.children[0], index.children[2]
    tag = tag_of(index.digest, ".sig")
    push_artifact(site.source, site.repository, tag, COSIGN)
    source = site.faulty(site.source)

    done = patient()(f"{source.host}/{site.repository}:v1", site.there)

    name = f"{source.host}/{site.repository}"
    assert (done.attachments, done.not_copied) == (
        (),
        (
            LeftAttachment(
                "attestation",
                f"{name}@{attestation.digest}",
                image.digest,
                "it is part of the index, which is not copied",
            ),
            LeftAttachment("signature", f"{name}:{tag}", index.digest, INDEX),
        ),
    )
    assert len(source.matching(r"/referrers/|/manifests/sha256-")) == 10  # 5 for each of the two digests


def test_image_without_any_says_so(site: Site) -> None:
    done = patient()(site.push().reference, site.there)

    assert (done.attachments, done.not_copied) == ((), ())


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
    push_artifact(site.source, site.repository, tag, COSIGN)
    source, copier = site.faulty(site.source, fault), patient()

    done = copier(f"{source.host}/{site.repository}:v1", site.there)

    assert done.attachments == (Attachment("signature", f"{site.there}:{tag}", image.digest),)
    (note,) = done.notes
    assert words in note
    assert copier.told == []  # it is tried once
    assert site.whole() == image.digest


def test_slow_lookup_does_not_delay_the_copy(site: Site) -> None:
    image = site.push()
    slow = Fault(Kind.STALL, match=r"/referrers/|/manifests/sha256-", seconds=3600, times=None)
    source = site.faulty(site.source, slow)
    began = time.monotonic()

    done = patient(attachments_s=0.3)(f"{source.host}/{site.repository}:v1", site.there)

    assert time.monotonic() - began < 20
    assert (done.status, done.attachments, done.not_copied) == ("copied", None, None)
    assert "may be incomplete: no answer within 0.3 s" in done.notes[0]
    assert site.whole() == image.digest
