"""S3 events from EventBridge."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refinerctl.aws.s3 import ObjectEvent, object_event

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


class TestObjectEvent:
    def test_a_put_into_a_versioned_bucket(self, events: Path) -> None:
        assert object_event((events / "object-created.json").read_text()) == ObjectEvent(
            "data-repository", "RefinerInput/helloworld.txt", "IYV3p45BT0ac8hjHg1houSdS1a.Mro8e"
        )

    def test_an_unversioned_bucket_has_no_version(self, events: Path) -> None:
        found = object_event((events / "object-created-unversioned.json").read_text())
        assert found is not None
        assert found.version_id is None

    def test_a_key_is_unchanged_because_eventbridge_does_not_encode_keys(self, events: Path) -> None:
        found = object_event((events / "object-created-odd-key.json").read_text())
        assert found is not None
        assert found.key == "RefinerInput/2025 03/50% a+b & c=d/Übergröße 報告 🧪.txt"

    @pytest.mark.parametrize("name", ["object-created-multipart.json", "folder-marker.json", "object-deleted.json"])
    def test_every_event_about_an_object_has_its_key(self, events: Path, name: str) -> None:
        text = (events / name).read_text()
        found = object_event(text)
        assert found is not None
        assert found.key == json.loads(text)["detail"]["object"]["key"]

    def test_the_records_of_a_batch_are_events(self, events: Path) -> None:
        records = json.loads((events / "sqs-batch.json").read_text())["Records"]
        found = [object_event(record["body"]) for record in records]
        assert [event and event.key for event in found] == [
            "RefinerInput/helloworld.txt",
            "RefinerInput/2025/03/large.txt",
        ]

    def test_an_event_without_a_key_is_none(self, events: Path) -> None:
        assert object_event((events / "malformed.json").read_text()) is None

    @pytest.mark.parametrize(
        "body",
        ["", "{", "[]", "null", "7", '{"detail": null}', '{"detail": {"bucket": "b", "object": []}}', "[" * 100_000],
        ids=lambda body: body[:20],
    )
    def test_any_other_text_is_none(self, body: str) -> None:
        assert object_event(body) is None

    @given(st.text() | JSON.map(json.dumps))
    def test_no_text_raises(self, body: str) -> None:
        assert object_event(body) is None
