"""Who built an image: Sigstore's public bundles, and those of an instance of the test's own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from refinerctl.errors import RefinerctlError, RefusedError, UsageError
from refinerctl.images import Build, BuiltBy
from refinerctl.releases.provenance import provenance_verifier
from tests.integration.registry.copying import registry
from tests.sigstore_instance import Run, SigstoreInstance, tampered

PUBLIC = Path(__file__).parents[2] / "fixtures" / "provenance"
CONFORMANCE = "sigstore-conformance/extremely-dangerous-public-oidc-beacon"
ARTIFACT = "sha256:a0cfc71271d6e278e57cd332ff957c3f7043fdda354c4cbb190a30d56efa01bf"
RELEASED = "sha256:c4e92e9ecc828bef2aa7dba1de8ac983511f7532a0df11c770d39099a25cf201"
WHEEL = "sha256:49a3aa6075e0f49f82843e74b5baa614ad2a588e6675612bf108a0a008c5ac25"
DIGEST, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64


def verify(
    bundles: Sequence[Path],
    trusted_root: Path,
    required: str,
    tag: str | None = "v1",
    subjects: Sequence[str] = (DIGEST,),
) -> Build:
    nowhere = registry("127.0.0.1:1").repository("app")
    verifier = provenance_verifier(bundles, trusted_root)
    return verifier.verify("registry.test/app:v1", BuiltBy.parse(required), tag, nowhere, subjects)


def refusal(*given: Any, **named: Any) -> str:
    with pytest.raises(RefusedError) as refused:
        verify(*given, **named)
    return refused.value.message


class TestPublicBundles:
    """With the trusted root of Sigstore's public instance in a file: without network."""

    root = PUBLIC / "trusted-root.json"

    def test_signature_of_a_release(self) -> None:
        bundle = [PUBLIC / "signature-of-a-release.json"]

        build = verify(bundle, self.root, "trailofbits/rfc8785.py@release.yml", "v0.1.2", [RELEASED])

        assert build == Build(
            repository="trailofbits/rfc8785.py",
            workflow=".github/workflows/release.yml",
            ref="refs/tags/v0.1.2",
            commit="d8b4a6445f38c48b9137a8099706d9b8073146e4",
            run_url="https://github.com/trailofbits/rfc8785.py/actions/runs/8351058501/attempts/1",
        )

    @pytest.mark.parametrize(
        ("required", "tag", "subject", "reason"),
        [
            ("trailofbits/rfc8785.py", "v0.1.2", OTHER, f"other digest: it is for {RELEASED}"),
            ("trailofbits/other", "v0.1.2", RELEASED, "other repository: https://github.com/trailofbits/rfc8785.py"),
            ("trailofbits/rfc8785.py@ci.yml", "v0.1.2", RELEASED, "other workflow: .github/workflows/release.yml"),
            (
                "trailofbits/rfc8785.py",
                "v0.1.3",
                RELEASED,
                "other tag: built from refs/tags/v0.1.2, not from tag v0.1.3",
            ),
        ],
    )
    def test_release_that_does_not_match_is_refused(self, required: str, tag: str, subject: str, reason: str) -> None:
        assert reason in refusal([PUBLIC / "signature-of-a-release.json"], self.root, required, tag, [subject])

    def test_attestation_of_a_branch_does_not_count_for_a_tag(self) -> None:
        bundle = [PUBLIC / "attestation-of-a-branch.json"]

        assert verify(bundle, self.root, CONFORMANCE, None, [OTHER, ARTIFACT]).ref == "refs/heads/main"
        assert "built from refs/heads/main, not from tag v1" in refusal(
            bundle, self.root, CONFORMANCE, "v1", [ARTIFACT]
        )

    def test_transparency_log_of_version_2(self) -> None:
        root = PUBLIC / "rekor-2-trusted-root.json"

        assert verify([PUBLIC / "rekor-2.json"], root, CONFORMANCE, None, [ARTIFACT]).repository == CONFORMANCE
        assert "invalid signature" in refusal([PUBLIC / "rekor-2.json"], self.root, CONFORMANCE, None, [ARTIFACT])

    def test_calling_workflow_counts_not_the_called_one(self) -> None:
        bundle = [PUBLIC / "reusable-workflow.json"]

        build = verify(bundle, self.root, "Malancas/Attest-Demo@shared.yml", None, [WHEEL])

        assert (build.repository, build.workflow) == ("malancas/attest-demo", ".github/workflows/shared.yml")
        assert "other repository" in refusal(bundle, self.root, "bdehamer/workflows", None, [WHEEL])

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("invalid-signature", "invalid signature: DSSE: invalid signature"),
            ("other-log-entry", "invalid signature: log entry payload hash does not match bundle"),
            ("invalid-inclusion-proof", "invalid bundle: entry must contain inclusion proof"),
            ("other-instance", "unknown certificate authority"),
        ],
    )
    def test_invalid_bundles(self, name: str, reason: str) -> None:
        assert reason in refusal([PUBLIC / f"{name}.json"], self.root, CONFORMANCE, None, [ARTIFACT])


class TestOwnInstance:
    """What no public bundle has."""

    @pytest.fixture(autouse=True)
    def _instance(self, tmp_path: Path) -> None:
        self.instance, self.folder = SigstoreInstance(), tmp_path
        self.root = tmp_path / "trusted-root.json"
        self.root.write_text(self.instance.trusted_root)

    def file(self, *documents: Any) -> list[Path]:
        path = self.folder / "bundles.jsonl"
        path.write_text("".join(f"{json.dumps(document)}\n" for document in documents))
        return [path]

    def test_one_of_several_bundles_is_enough(self) -> None:
        others = [self.instance.attestation(OTHER), self.instance.attestation(DIGEST, Run(repository="other/app"))]

        build = verify(self.file(*others, self.instance.attestation(DIGEST)), self.root, "example/app@release.yml")

        assert build.run_url == Run().run_url
        message = refusal(self.file(*others), self.root, "example/app@release.yml")
        assert "line 1: other digest" in message
        assert "line 2: other repository" in message

    @pytest.mark.parametrize(
        ("run", "reason"),
        [
            (Run(signed_after=timedelta(minutes=11)), "expired certificate: signed outside of its validity"),
            (Run(signed_after=timedelta(minutes=-1)), "expired certificate: signed outside of its validity"),
            (Run(issuer="https://accounts.example.com"), "other issuer: https://accounts.example.com"),
            (Run(issuer="https://token.actions.githubusercontent.com.example"), "other issuer"),
            (Run(ref="refs/heads/v1"), "other tag: built from refs/heads/v1"),
            (Run(repository="example/app2"), "other repository"),
            (Run(predicate="https://spdx.dev/Document"), "neither provenance nor a signature"),
        ],
    )
    def test_run_that_does_not_match_is_refused(self, run: Run, reason: str) -> None:
        assert reason in refusal(self.file(self.instance.attestation(DIGEST, run)), self.root, "example/app")

    def test_issuer_of_an_enterprise_is_accepted(self) -> None:
        run = Run(issuer="https://token.actions.githubusercontent.com/example")

        assert verify(self.file(self.instance.attestation(DIGEST, run)), self.root, "example/app")

    def test_changed_statement_is_refused(self) -> None:
        bundle = tampered(self.instance.attestation(DIGEST), OTHER)

        assert "invalid signature" in refusal(self.file(bundle), self.root, "example/app", subjects=[OTHER])

    def test_certificate_of_an_unknown_authority(self) -> None:
        bundle = SigstoreInstance().attestation(DIGEST)

        assert "unknown certificate authority" in refusal(self.file(bundle), self.root, "example/app")

    def test_bundle_without_a_log_entry_as_of_private_repositories(self) -> None:
        bundle = self.instance.attestation(DIGEST)
        bundle["verificationMaterial"]["tlogEntries"] = []

        assert "no transparency log entry" in refusal(self.file(bundle), self.root, "example/app")

    @pytest.mark.parametrize("document", [[], {}, {"verificationMaterial": {"tlogEntries": [1]}}, "text", None])
    def test_documents_that_are_not_bundles(self, document: Any) -> None:
        assert "invalid bundle" in refusal(self.file(document), self.root, "example/app")

    def test_trusted_roots_one_on_each_line(self) -> None:
        """As `gh attestation trusted-root` writes them: GitHub's own has no transparency log."""
        own, githubs = json.loads(self.instance.trusted_root), json.loads(SigstoreInstance().trusted_root)
        del githubs["tlogs"]
        lines = [json.dumps(document) for document in (githubs, json.loads(SigstoreInstance().trusted_root), own)]
        self.root.write_text("\n".join(lines))

        assert verify(self.file(self.instance.attestation(DIGEST)), self.root, "example/app")

    @pytest.mark.parametrize(
        ("content", "words"),
        [
            ("{}", "has no trusted root with a transparency log"),
            ("{", "is not a trusted root of Sigstore"),
            ('{"tlogs": [1]}', "is not a trusted root of Sigstore"),
            ('{"tlogs": [{}], "mediaType": "x"}', "is not a trusted root of Sigstore"),
        ],
    )
    def test_files_that_are_not_trusted_roots(self, content: str, words: str) -> None:
        self.root.write_text(content)

        with pytest.raises(RefinerctlError, match=words):
            provenance_verifier([], self.root)

    def test_file_without_bundles_does_not_fall_back_to_the_registry(self) -> None:
        assert "the files of --provenance-bundle contain no bundle" in refusal(self.file(), self.root, "example/app")

    def test_missing_files(self) -> None:
        with pytest.raises(RefinerctlError, match="No such file"):
            provenance_verifier([self.folder / "missing"], self.root)
        with pytest.raises(RefinerctlError, match="No such file"):
            provenance_verifier([], self.folder / "missing")


@pytest.mark.parametrize(
    ("text", "repository", "workflow"),
    [
        ("example/app", "example/app", None),
        ("example/app@release.yml", "example/app", ".github/workflows/release.yml"),
        ("example/app@.github/workflows/release.yml", "example/app", ".github/workflows/release.yml"),
    ],
)
def test_requirement(text: str, repository: str, workflow: str | None) -> None:
    assert BuiltBy.parse(text) == BuiltBy(repository, workflow)


@pytest.mark.parametrize("text", ["", "app", "a/b/c", "https://github.com/a/b", "a/b@", "a/b@c d", "a/b@c@d"])
def test_invalid_requirement(text: str) -> None:
    with pytest.raises(UsageError, match="is not a GitHub repository"):
        BuiltBy.parse(text)
