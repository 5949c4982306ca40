"""The example store keeps the public contract."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import pytest
from docs.examples.json_file_recorder import JSONFileRecorder

from lastseen import SchemaError
from lastseen.testing import ActivityRecorderContract, updates


class TestJSONFileRecorder(ActivityRecorderContract):
    """Every test of the contract runs here; two methods tell it how to reach the store."""

    @pytest.fixture
    def recorder(self, tmp_path: Path) -> JSONFileRecorder:
        """Return an empty recorder."""
        return JSONFileRecorder(tmp_path / "seen.json")

    def stored(self, recorder: JSONFileRecorder, key: str) -> datetime | None:
        """Ask the recorder."""
        return recorder.last_seen_at(key)

    def test_another_file_is_a_schema_error(self, tmp_path: Path) -> None:
        """What the contract cannot know: a file that holds something else is left alone and named."""
        path = tmp_path / "seen.json"
        path.write_text('["not", "times"]', "utf-8")
        with pytest.raises(SchemaError, match="does not hold times"):
            JSONFileRecorder(path).batch_record_activity(updates("a"))
        assert path.read_text("utf-8") == '["not", "times"]'  # noqa: S101 - a test
