"""A deployment's clients against the emulator: images in ECR, functions' updates, all versions of a bucket."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest

from refinerctl.aws.bucket_versions import BucketVersions
from refinerctl.aws.ecr import EcrRegistry
from refinerctl.aws.lambda_ import Functions
from refinerctl.aws.s3 import S3Bucket
from refinerctl.aws.session import AwsSession
from refinerctl.config import GlobalFlags, load_settings
from refinerctl.errors import NotFoundError, RefinerctlError
from refinerctl.images import ImageReference, Platform
from refinerctl.registry.manifests import Descriptor, config_platform, digest_of
from refinerctl.registry.registries import Registries
from refinerctl.releases.pins import pin_images
from refinerctl.stacks.base import StageImage
from tests.registries.docker_registry import DockerRegistry
from tests.registries.images import push_image


class TestBucketVersions:
    def test_all_versions_and_delete_markers_are_deleted(self, session: AwsSession, bucket: S3Bucket) -> None:
        client = session.client("s3")
        versions = BucketVersions(session, batch=7)
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

    def test_delete_marker_alone_counts(self, session: AwsSession, bucket: S3Bucket) -> None:
        client = session.client("s3")
        client.delete_object(Bucket=bucket.name, Key="never-there")
        versions = BucketVersions(session)
        assert versions.any_in(bucket.name)
        assert versions.delete_all(bucket.name) == 1

    def test_missing_bucket_is_empty(self, session: AwsSession) -> None:
        assert not BucketVersions(session).any_in("no-such-bucket-here")
        with pytest.raises(RefinerctlError, match="no-such-bucket-here"):
            BucketVersions(session).delete_all("no-such-bucket-here")


class TestDeployableImages:
    @pytest.fixture
    def registry(self, session: AwsSession, tmp_path: Path) -> DockerRegistry:
        return DockerRegistry(urlsplit(session.endpoint_url or "").netloc, tmp_path)

    @pytest.fixture
    def images(self, session: AwsSession, tmp_path: Path) -> Registries:
        settings = load_settings(GlobalFlags(endpoint_url=session.endpoint_url), {}, tmp_path)
        return Registries(settings, lambda _: EcrRegistry(session), lambda _: None)

    @pytest.fixture
    def repository(self, session: AwsSession, unique: str) -> str:
        session.client("ecr").create_repository(repositoryName=unique)
        return unique

    def test_image_is_found_by_tag_and_by_digest(
        self, images: Registries, registry: DockerRegistry, repository: str
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

    def test_missing_image_and_repository_are_not_found(self, images: Registries, repository: str) -> None:
        for name in (repository, "no/such/repository"):
            reference = ImageReference(name, tag="v1")
            assert images.find(reference) is None
            assert images.tags(reference) == []
        with pytest.raises(NotFoundError, match="although a manifest refers to it"):
            images.blob(ImageReference(repository), Descriptor("x", digest_of(b"never"), 5))

    def test_release_is_pinned_to_the_registrys_digest(
        self, images: Registries, registry: DockerRegistry, repository: str
    ) -> None:
        made = push_image(registry, repository, "v1")
        wanted = StageImage("In", ImageReference(repository), Platform("linux", "amd64"))
        pins = pin_images([wanted], images, "v1")
        assert pins.images == {"In": f"{repository}@{made.digest}"}


class TestFunctions:
    def test_function_is_configured_and_its_mapping_enabled(self, session: AwsSession, unique: str) -> None:
        client, functions = session.client("lambda"), Functions(session)
        queue = session.client("sqs").create_queue(QueueName=unique)["QueueUrl"]
        arn = session.client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
        client.create_function(
            FunctionName=unique,
            Role="arn:aws:iam::000000000000:role/x",
            PackageType="Image",
            Code={"ImageUri": "repo:v1"},
        )
        assert functions.get(unique).update in ("InProgress", "Successful")
        mapping = client.create_event_source_mapping(
            FunctionName=unique, EventSourceArn=arn["QueueArn"], Enabled=False
        )["UUID"]
        assert not functions.mapping_is_enabled(mapping)
        client.update_event_source_mapping(UUID=mapping, Enabled=True)
        assert functions.mapping_is_enabled(mapping)
        client.delete_event_source_mapping(UUID=mapping)
