"""Volumes are known by identity."""

from __future__ import annotations

from pathlib import Path

import pytest

from base.errors import ConfigError, FormatError, VolumeError
from chunks.volume import IDENTITY_NAME, Volume

NODE = bytes(range(16))


def test_made_once_and_opened_by_identity(tmp_path: Path) -> None:
    made = Volume.create(tmp_path / "disk", NODE)
    assert Volume.open(tmp_path / "disk") == made == Volume.open(tmp_path / "disk", made.id)
    assert (len(made.id), made.node) == (16, NODE)
    assert 0 < made.free_bytes() <= made.total_bytes()
    with pytest.raises(ConfigError, match="already"):
        Volume.create(tmp_path / "disk", NODE)


def test_a_missing_mount_is_missing(tmp_path: Path) -> None:
    made = Volume.create(tmp_path / "disk", NODE)
    (tmp_path / "mount").mkdir()
    other = Volume.create(tmp_path / "other", NODE)
    for root, expected in ((tmp_path / "mount", made.id), (tmp_path / "none", None), (other.root, made.id)):
        with pytest.raises(VolumeError) as found:
            Volume.open(root, expected)
        assert found.value.reason == "missing"
    assert list((tmp_path / "mount").iterdir()) == []


@pytest.mark.parametrize("text", ["", "{}", '{"format":2,"id":"00","node":"00"}', '{"format":1,"id":"zz","node":"00"}'])
def test_another_format_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / IDENTITY_NAME).write_text(text)
    with pytest.raises(FormatError):
        Volume.open(tmp_path)
