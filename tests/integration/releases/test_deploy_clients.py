"""What a deployment asks AWS, against the emulator: images in ECR, functions' updates, all versions of a bucket."""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from refinerctl.aws import bucket_versions
from refinerctl.aws.bucket_versions import BucketVersions
from refinerctl.aws.function_updates import FunctionUpdates
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import ImageReference, Platform
from refinerctl.registry.client import Registry
from refinerctl.registry.credentials import CredentialChain
from refinerctl.registry.manifests import Descriptor, config_platform, digest_of
from refinerctl.releases.ecr_images import EcrImages
from refinerctl.releases.pins import PinRequest, pin_images
from refinerctl.stacks.base import StageImage
from refinerctl.transport import Transport
from tests.registries.docker_registry import DockerRegistry
from tests.registries.images import push_image


class TestBucketVersions:
    def test_every_version_and_delete_marker_goes_several_batches_at_once(
        self, session: AwsSession, bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(bucket_versions, "BATCH", 7)
        client = session.client("s3")
        versions = BucketVersions(session)
        assert not versions.any_in(bucket.name)
        for number in range(20):
            for body in (b"one", b"two"):
                client.put_object(Bucket=bucket.name, Key=f"folder/a+b %41 ü {number}", Body=body)
        client.delete_object(Bucket=bucket.name, Key="folder/a+b %41 ü 3")
        assert versions.any_in(bucket.name)
        seen: list[int] = []
        assert versions.delete_all(bucket.name, seen.append) == 41
        assert seen[-1] == 41
        assert len(seen) > 3
        assert not versions.any_in(bucket.name)
        client.delete_bucket(Bucket=bucket.name)

    def test_a_delete_marker_alone_is_something(self, session: AwsSession, bucket: S3Bucket) -> None:
        client = session.client("s3")
        client.delete_object(Bucket=bucket.name, Key="never-there")
        versions = BucketVersions(session)
        assert versions.any_in(bucket.name)
        assert versions.delete_all(bucket.name) == 1

    def test_a_bucket_that_is_gone_holds_nothing(self, session: AwsSession) -> None:
        assert not BucketVersions(session).any_in("no-such-bucket-here")
        with pytest.raises(RefinerctlError, match="no-such-bucket-here"):
            BucketVersions(session).delete_all("no-such-bucket-here")


class TestEcrImages:
    @pytest.fixture
    def registry(self, session: AwsSession, tmp_path: Path) -> DockerRegistry:
        return DockerRegistry(urlsplit(session.endpoint_url or "").netloc, tmp_path)

    @pytest.fixture
    def images(self, registry: DockerRegistry) -> EcrImages:
        client = Registry(registry.host, CredentialChain({}).login, Transport())
        return EcrImages(lambda reference: client.repository(reference.repository))

    @pytest.fixture
    def repository(self, session: AwsSession, unique: str) -> str:
        session.client("ecr").create_repository(repositoryName=unique)
        return unique

    def test_by_tag_by_digest_and_its_config(
        self, images: EcrImages, registry: DockerRegistry, repository: str
    ) -> None:
        made = push_image(registry, repository, "v1", architecture="arm64")
        found = images.find(ImageReference(repository, tag="v1"))
        assert found is not None
        assert found.digest == made.digest
        assert images.find(ImageReference(repository, digest=made.digest)) == found
        assert found.config is not None
        config = images.blob(ImageReference(repository), found.config)
        assert str(config_platform(config)) == "linux/arm64"
        assert images.tags(ImageReference(repository)) == ["v1"]

    def test_what_is_not_there(self, images: EcrImages, repository: str) -> None:
        for name in (repository, "no/such/repository"):
            reference = ImageReference(name, tag="v1")
            assert images.find(reference) is None
            assert images.tags(reference) == []
        with pytest.raises(NotFoundError, match="there is no blob"):
            images.blob(ImageReference(repository), Descriptor("x", digest_of(b"never"), 5))

    def test_a_release_is_pinned_over_the_wire(
        self, images: EcrImages, registry: DockerRegistry, repository: str
    ) -> None:
        made = push_image(registry, repository, "v1")
        wanted = StageImage("In", ImageReference(repository), Platform("linux", "amd64"))
        pins = pin_images([wanted], images, PinRequest("v1"))
        assert pins.images == {"In": f"{repository}@{made.digest}"}


class TestFunctionUpdates:
    def test_a_function_and_its_mapping(self, session: AwsSession, unique: str) -> None:
        client, updates = session.client("lambda"), FunctionUpdates(session)
        queue = session.client("sqs").create_queue(QueueName=unique)["QueueUrl"]
        arn = session.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        client.create_function(
            FunctionName=unique,
            Role="arn:aws:iam::000000000000:role/x",
            PackageType="Image",
            Code={"ImageUri": "repo:v1"},
        )
        deadline = time.monotonic() + 10
        while not updates.function_is_ready(unique):
            assert time.monotonic() < deadline
        mapping = client.create_event_source_mapping(
            FunctionName=unique, EventSourceArn=arn["QueueArn"], Enabled=False
        )["UUID"]
        assert not updates.mapping_is_enabled(mapping)
        client.update_event_source_mapping(UUID=mapping, Enabled=True)
        assert updates.mapping_is_enabled(mapping)
        client.delete_event_source_mapping(UUID=mapping)

    def test_what_is_not_there_is_named(self, session: AwsSession) -> None:
        with pytest.raises(RefinerctlError, match="no-such-function"):
            FunctionUpdates(session).function_is_ready("no-such-function")
        with pytest.raises(RefinerctlError, match="event source mapping"):
            FunctionUpdates(session).mapping_is_enabled("6d0a2f7e-0000-0000-0000-000000000000")
