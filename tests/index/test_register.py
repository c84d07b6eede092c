from __future__ import annotations

import msgspec
import pytest

from base.errors import NotFound, UserError
from index import Camera, Index
from index.register import read_copy, register_path


def test_cameras_are_kept_and_each_change_is_counted(index: Index) -> None:
    gate = Camera(id="gate", main="rtsp://u:p@10.0.0.1/1", sub="rtsp://u:p@10.0.0.1/2", transport="udp", note="cổng")
    with index.write() as transaction:
        assert transaction.register_version() == 0
        transaction.put_camera(gate)
        transaction.put_camera(Camera(id="door", main="rtsps://10.0.0.2", tls_verify=False))
    with index.read() as snapshot:
        assert snapshot.register_version() == 2
        assert [camera.id for camera in snapshot.cameras()] == ["door", "gate"]
        assert snapshot.camera("gate") == gate
        assert snapshot.camera("") is snapshot.camera("none") is None
        assert {row.name: row.id for row in snapshot.streams()} == {"gate.main": 1, "gate.sub": 2, "door.main": 3}
        row = snapshot.stream("gate.sub")
        assert row is not None
        assert (row.camera, row.quality, snapshot.stream_by_id(row.id)) == ("gate", "sub", row)


def test_ids_are_never_given_out_twice(index: Index) -> None:
    with index.write() as transaction:
        transaction.put_camera(Camera(id="a", main="rtsp://a"))
        transaction.remove_camera("a")
        transaction.put_camera(Camera(id="b", main="rtsp://b"))
        assert [(row.id, row.name) for row in transaction.streams()] == [(1, "a.main"), (2, "b.main")]
        assert [camera.id for camera in transaction.cameras()] == ["b"]
        assert transaction.ensure_stream("a.main").id == 1
    with pytest.raises(NotFound, match="camera 'a'"), index.write() as transaction:
        transaction.remove_camera("a")


def test_the_copy_beside_the_index_follows_and_is_private(index: Index) -> None:
    path = register_path(index.path)
    assert read_copy(path) is None
    camera = Camera(id="gate", main="rtsp://u:secret@10.0.0.1/1")
    with index.write() as transaction:
        transaction.put_camera(camera)
    copy = read_copy(path)
    assert copy is not None
    assert (copy.cameras, copy.streams, copy.next_stream, copy.version) == ([camera], {"gate.main": 1}, 2, 1)
    assert path.stat().st_mode & 0o777 == 0o600
    with index.write() as transaction:
        transaction.remove_camera("gate")
    copy = read_copy(path)
    assert copy is not None
    assert copy.cameras == []


def test_a_register_from_before_priorities_is_read(index: Index) -> None:
    """A row and a copy without the field: the camera is of normal priority."""
    path = register_path(index.path)
    with index.write() as transaction:
        transaction.put_camera(Camera(id="gate", main="rtsp://a"))
    old = msgspec.json.decode(path.read_bytes())
    del old["cameras"][0]["priority"]
    path.write_bytes(msgspec.json.encode(old))
    copy = read_copy(path)
    assert copy is not None
    assert copy.cameras[0].priority == "normal"


@pytest.mark.parametrize(
    "fields",
    [
        {"id": "", "main": "rtsp://a"},
        {"id": "Gate", "main": "rtsp://a"},
        {"id": "-gate", "main": "rtsp://a"},
        {"id": "a/../b", "main": "rtsp://a"},
        {"id": "a.main", "main": "rtsp://a"},
        {"id": "x" * 64, "main": "rtsp://a"},
        {"id": "a", "main": "ftp://u:secret@a/"},
        {"id": "a", "main": "rtsp://u:secret@:554/x"},
        {"id": "a", "main": "rtsp://u:secret@a:99999/x"},
        {"id": "a", "main": "rtsp://u:secret@a/x\r\nX: y"},
        {"id": "a", "main": "rtsp://u:secret@[::1/x"},
        {"id": "a", "main": "rtsp://u:secret@a/" + "x" * 3000},
        {"id": "a", "main": "rtsp://a", "sub": "secret"},
        {"id": "a", "main": "rtsp://a", "transport": "sctp"},
        {"id": "a", "main": "rtsp://a", "note": "x" * 2000},
        {"id": "a", "main": "rtsp://a", "priority": "urgent"},
    ],
)
def test_a_wrong_camera_cannot_be_made_and_no_secret_is_told(fields: dict[str, str]) -> None:
    with pytest.raises(UserError) as caught:
        Camera(**fields)  # type: ignore[arg-type]
    assert caught.value.reason == "bad-camera"
    assert "secret" not in str(caught.value)
    with pytest.raises((UserError, msgspec.ValidationError)):
        msgspec.json.decode(msgspec.json.encode(fields), type=Camera)
