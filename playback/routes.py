"""The route table: every call of the server, once.

Kept true: a path that is not here does not exist, and every path here is in OpenAPI.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from playback import (
    alarms,
    cameraedit,
    cameras,
    cameratest,
    health,
    history,
    hls,
    holds,
    live,
    metrics,
    overload,
    page,
    pictures,
    preview,
    reports,
    seek,
    streams,
    timeline,
    trick,
    volumes,
)
from playback.calls import Answer, Ask, Call, NoQuery, as_json
from playback.schema import (
    CameraBody,
    CamerasView,
    CameraView,
    ClipQuery,
    ContactQuery,
    FrameQuery,
    HealthView,
    HoldBody,
    HoldsQuery,
    HoldsView,
    HoldView,
    LiveHlsQuery,
    LiveText,
    MultivariantQuery,
    OverloadsView,
    RangeQuery,
    RecordBody,
    ReleaseQuery,
    SeekBody,
    SeekView,
    SessionBody,
    SessionView,
    StreamsView,
    StreamView,
    TimelineBody,
    TimelineQuery,
    TimelinesView,
    TimelineView,
    TrickQuery,
    TrickText,
    VolumesView,
)
from playback.schema_upkeep import (
    AlarmsView,
    CameraChange,
    CameraTestBody,
    CameraTestView,
    HistoryQuery,
    HistoryView,
    ImportBody,
    ImportView,
    ReportsView,
    StatesBody,
    StatesQuery,
    StatesView,
)

_API: Final = "/api/v1"
_STREAM: Final = f"{_API}/streams/{{id}}"
_M3U8: Final = ("application/vnd.apple.mpegurl",)
_MP4: Final = ("video/mp4",)
DOCUMENT: Final = web.AppKey("document", dict[str, Any])


async def _openapi(ask: Ask[NoQuery, None]) -> web.Response:
    """GET /openapi.json."""
    return as_json(ask.request.app[DOCUMENT])


_STREAM_CALLS: Final = (
    Call("GET", f"{_API}/streams", streams.streams, "All streams and how they are doing",
         {200: Answer("the streams", StreamsView)}),
    Call("GET", f"{_API}/volumes", volumes.volumes, "The volumes this node records to, and how they are doing",
         {200: Answer("the volumes", VolumesView)}, tag="node"),
    Call("GET", f"{_API}/overloads", overload.overloads, "When disk or CPU could not keep up, and whether they do now",
         {200: Answer("the alarm", OverloadsView)}, tag="node"),
    Call("GET", _STREAM, streams.stream, "One stream", {200: Answer("the stream", StreamView)}, problems=(404,)),
    Call("GET", f"{_STREAM}/timeline", timeline.timeline, "What is recorded, and what is missing and why",
         {200: Answer("spans and gaps", TimelineView)}, query=TimelineQuery, problems=(404,)),
    Call("POST", f"{_API}/timeline", timeline.timelines, "What many streams hold",
         {200: Answer("spans and gaps per stream", TimelinesView)}, body=TimelineBody, problems=(403, 404, 413, 415)),
    Call("POST", f"{_API}/seek", seek.seek, "Many streams at one instant",
         {200: Answer("a key frame per stream", SeekView)}, body=SeekBody, problems=(403, 404, 413, 415)),
    Call("GET", f"{_STREAM}/clip.mp4", preview.clip, "One MP4 of any length, starting at the exact picture",
         {200: Answer("the clip; Keyreel-Start is the time of its first picture", media_types=_MP4),
          206: Answer("parts of it", media_types=_MP4),
          304: Answer("the copy with this ETag is current")},
         query=ClipQuery, problems=(404, 412, 416)),
    Call("GET", f"{_STREAM}/frame.jpg", pictures.frame, "The picture at a moment",
         {200: Answer("the picture; Keyreel-Time says when", media_types=("image/jpeg",))},
         query=FrameQuery, problems=(404,)),
    Call("GET", f"{_STREAM}/contact.jpg", pictures.contact, "Pictures spread evenly over a range, on one sheet",
         {200: Answer("the sheet; Keyreel-Times says when each was, - for none", media_types=("image/jpeg",))},
         query=ContactQuery, problems=(404,)),
    Call("GET", f"{_STREAM}/trick", trick.trick, "WebSocket: key frames alone, forward or backward at a rate",
         {101: Answer("per picture a JSON text (TrickText), init where it says so, a fragment", TrickText)},
         query=TrickQuery, problems=(403, 404, 426)),
    Call("GET", f"{_STREAM}/live", live.live, "WebSocket: fMP4 fragments as they are written",
         {101: Answer("a JSON text (LiveText), then init and fragments", LiveText)}, problems=(403, 404, 426)),
)  # fmt: skip

_HLS_CALLS: Final = (
    Call("GET", f"{_STREAM}/hls/vod.m3u8", hls.vod, "HLS playlist of a range",
         {200: Answer("the playlist", media_types=_M3U8)}, query=RangeQuery, problems=(404,), tag="hls"),
    Call("GET", f"{_STREAM}/hls/live.m3u8", hls.live, "HLS playlist that follows the recording",
         {200: Answer("the playlist", media_types=_M3U8)}, query=LiveHlsQuery, problems=(404, 503), tag="hls"),
    Call("GET", f"{_STREAM}/hls/multivariant.m3u8", hls.multivariant, "What a player chooses from: variant, key frames",
         {200: Answer("the playlist", media_types=_M3U8)}, query=MultivariantQuery, problems=(404,), tag="hls"),
    Call("GET", f"{_STREAM}/hls/iframes.m3u8", hls.iframes, "HLS playlist of key frames, for scrubbing",
         {200: Answer("the playlist", media_types=_M3U8)}, query=RangeQuery, problems=(404,), tag="hls"),
    Call("GET", f"{_STREAM}/hls/{{segment}}", hls.segment, "A file that a playlist names",
         {200: Answer("init segment, segment, part or key frames; unchanging", media_types=_MP4),
          206: Answer("parts of it", media_types=_MP4)}, problems=(404, 416), tag="hls"),
)  # fmt: skip

_NODE_CALLS: Final = (
    Call("GET", f"{_API}/cameras", cameras.cameras, "The camera register",
         {200: Answer("the cameras, without passwords", CamerasView)}, tag="cameras"),
    Call("POST", f"{_API}/cameras", cameras.put_camera, "Add a camera or replace one",
         {200: Answer("replaced", CameraView), 201: Answer("added", CameraView)},
         body=CameraBody, problems=(403, 413, 415), tag="cameras"),
    Call("GET", f"{_API}/cameras/{{id}}", cameras.camera, "One camera",
         {200: Answer("the camera", CameraView)}, problems=(404,), tag="cameras"),
    Call("POST", f"{_API}/cameras/import", cameraedit.import_cameras, "Register many cameras from CSV, all or none",
         {200: Answer("what was registered, or would be without `apply`", ImportView),
          422: Answer("nothing was registered, and why, row by row", ImportView)},
         body=ImportBody, problems=(403, 409, 413, 415), tag="cameras"),
    Call("POST", f"{_API}/cameras/test", cameratest.test_camera, "Call a camera once and tell what it answers",
         {200: Answer("what it answered, also when that is nothing good", CameraTestView)},
         body=CameraTestBody, problems=(403, 404, 413, 415), tag="cameras"),
    Call("PATCH", f"{_API}/cameras/{{id}}", cameraedit.change_camera, "Change some fields of a camera",
         {200: Answer("the camera", CameraView)}, body=CameraChange, problems=(403, 404, 413, 415), tag="cameras"),
    Call("DELETE", f"{_API}/cameras/{{id}}", cameras.remove_camera, "Stop recording a camera; its footage stays",
         {204: Answer("removed")}, problems=(403, 404), tag="cameras"),
    Call("POST", f"{_API}/cameras/{{id}}/record", cameras.start_recording, "Record a camera that stands by",
         {200: Answer("the camera", CameraView)}, body=RecordBody, problems=(403, 404, 413, 415), tag="cameras"),
    Call("DELETE", f"{_API}/cameras/{{id}}/record", cameras.stop_recording, "End a request to record",
         {200: Answer("the camera", CameraView)}, problems=(403, 404), tag="cameras"),
    Call("GET", f"{_API}/holds", holds.list_holds, "Holds, and what they keep",
         {200: Answer("the holds", HoldsView)}, query=HoldsQuery, tag="holds"),
    Call("POST", f"{_API}/holds", holds.place_hold, "Keep a range of streams from being deleted",
         {201: Answer("it is held: what is kept exists until the hold ends", HoldView)},
         body=HoldBody, problems=(403, 404, 413, 415), tag="holds"),
    Call("GET", f"{_API}/holds/{{id}}", holds.one_hold, "One hold",
         {200: Answer("the hold", HoldView)}, problems=(404,), tag="holds"),
    Call("DELETE", f"{_API}/holds/{{id}}", holds.release_hold, "Release a hold; it stays on record",
         {200: Answer("the hold, released", HoldView)}, query=ReleaseQuery, problems=(403, 404), tag="holds"),
    Call("POST", f"{_API}/session", health.open_session, "Hand in the API token for a session cookie",
         {200: Answer("the cookie is set", SessionView)}, body=SessionBody, problems=(403, 413, 415), tag="node"),
    Call("DELETE", f"{_API}/session", health.close_session, "Forget the session",
         {204: Answer("forgotten")}, problems=(403,), tag="node"),
    Call("GET", "/healthz", health.healthz, "Whether this process lives", {200: Answer("it does", HealthView)},
         tag="node"),
    Call("GET", "/readyz", health.readyz, "Whether this node is ready",
         {200: Answer("ready", HealthView), 503: Answer("not ready, and why", HealthView)}, tag="node"),
    Call("GET", "/metrics", metrics.metrics, "Prometheus metrics",
         {200: Answer("the metrics", media_types=("text/plain",))}, tag="node"),
    Call("GET", "/openapi.json", _openapi, "This description",
         {200: Answer("OpenAPI 3.1", media_types=("application/json",))}, tag="node"),
    Call("GET", "/", page.page, "The web page", {200: Answer("the page", media_types=("text/html",))}, tag="page"),
    Call("GET", "/web/{name}", page.page, "A file of the web page",
         {200: Answer("the file", media_types=("text/css", "text/javascript", "image/svg+xml"))}, problems=(404,),
         tag="page"),
)  # fmt: skip

_UPKEEP_CALLS: Final = (
    Call("GET", f"{_API}/alarms", alarms.alarms, "What somebody should look at now",
         {200: Answer("the alarms, critical first", AlarmsView)}, tag="node"),
    Call("GET", f"{_API}/history", history.history, "Figures of the last hour or day",
         {200: Answer("a line of figures each", HistoryView)}, query=HistoryQuery, tag="node"),
    Call("GET", f"{_API}/reports", reports.reports, "What was found on volumes and in the index, and put right",
         {200: Answer("the reports", ReportsView)}, tag="node"),
    Call("GET", f"{_STREAM}/states", history.stream_states, "When a stream came and went",
         {200: Answer("its conditions", StatesView)}, query=StatesQuery),
    Call("POST", f"{_API}/states", history.states, "When many streams came and went",
         {200: Answer("their conditions", StatesView)}, body=StatesBody, problems=(403, 413, 415)),
)  # fmt: skip

CALLS: Final[tuple[Call, ...]] = (*_STREAM_CALLS, *_HLS_CALLS, *_NODE_CALLS, *_UPKEEP_CALLS)
