"""Many cameras at once: all or none, and every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from base.errors import UserError
from index import Camera
from keyreel.cameras import add, open_index, read_csv

HEAD = "id,main,sub,transport,enabled\n"


def _csv(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cameras.csv"
    path.write_text(text)
    return path


def test_a_thousand_cameras_from_one_file(tmp_path: Path) -> None:
    lines = [
        f"cam{i},rtsp://10.0.{i // 250}.{i % 250}/main,rtsp://h/{i},{'udp' if i % 2 else ''},yes" for i in range(1000)
    ]
    add(tmp_path / "data", read_csv(_csv(tmp_path, HEAD + "\n".join(lines))), replace=False, as_json=False)
    with open_index(tmp_path / "data") as index, index.read() as snapshot:
        cameras = {camera.id: camera for camera in snapshot.cameras()}
    assert len(cameras) == 1000
    assert cameras["cam7"] == Camera(id="cam7", main="rtsp://10.0.0.7/main", sub="rtsp://h/7", transport="udp")


def test_priorities_from_a_file(tmp_path: Path) -> None:
    read = read_csv(_csv(tmp_path, "id,main,priority\na,rtsp://h/a,high\nb,rtsp://h/b,\n"))
    assert [camera.priority for camera in read] == ["high", "normal"]
    with pytest.raises(UserError, match="line 2: camera a: priority is low, normal or high"):
        read_csv(_csv(tmp_path, "id,main,priority\na,rtsp://h/a,9\n"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1"),
        ("id,sub\n", "line 1"),
        ("id,main,colour\n", "line 1"),
        (HEAD + "a,rtsp://h/,,,\nB,rtsp://h/,,,\n", "line 3"),
        (HEAD + "a,ftp://h/,,,\n", "line 2"),
        (HEAD + "a,rtsp://h/,,,maybe\n", "line 2: 'maybe'"),
        (HEAD + "a,rtsp://h/\n", "line 2"),
        (HEAD + "a,rtsp://h/,,,\na,rtsp://i/,,,\n", "twice"),
    ],
)
def test_a_wrong_file_names_its_line(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        read_csv(_csv(tmp_path, text))
    with pytest.raises(UserError, match="cannot be read"):
        read_csv(tmp_path / "absent.csv")


def test_all_or_none(tmp_path: Path) -> None:
    first = Camera(id="b", main="rtsp://h/b")
    add(tmp_path, [first], replace=False, as_json=False)
    with pytest.raises(UserError, match="registered already"):
        add(
            tmp_path,
            [Camera(id="a", main="rtsp://h/a"), Camera(id="b", main="rtsp://i/b")],
            replace=False,
            as_json=False,
        )
    with open_index(tmp_path) as index, index.read() as snapshot:
        assert snapshot.cameras() == [first]
