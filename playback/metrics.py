"""Prometheus metrics: this process's own counters and the recorder's, read from its status at each scrape.

Kept true: labels come from the route table and the register, never from a request, so a client cannot make series;
a scrape is formatted in a thread, as thousands of series take tens of milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final, get_args

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from base.clock import wall_us
from base.status import OverloadCause, RecorderStatus, VolumeState
from playback.calls import Ask, NoQuery
from playback.context import INDEX_LANE, Bound, Context
from playback.streams import FRESH_US, stored_now_us

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_BUCKETS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_STREAM_GAUGES: Final = (
    ("bitrate_bps", "Bits per second over the last seconds"),
    ("frame_rate", "Pictures per second over the last seconds"),
    ("stored_bytes", "Bytes of footage"),
    ("held_bytes", "Bytes of footage that holds keep"),
    ("days_left", "Days until footage on its volume has to be deleted to make room"),
    ("days_kept", "Days of footage at this rate, when its volume is as full as it may be"),
)
_VOLUME_GAUGES: Final = (
    ("free_bytes", "Free bytes"),
    ("total_bytes", "Size in bytes"),
    ("queue_bytes", "Bytes waiting"),
    ("floor_bytes", "Bytes that stay free"),
    ("stored_bytes", "Bytes of footage"),
    ("held_bytes", "Bytes of footage that holds keep"),
    ("ingest_bytes_s", "Bytes a second that come in, mean of some hours"),
    ("days_left", "Days until footage has to be deleted to make room"),
    ("days_kept", "Days of footage at this rate, when the volume is as full as it may be"),
    ("days_held", "Days of footage that holds cost"),
    ("streams_short", "Streams whose guaranteed days do not fit at this rate"),
    ("short_bytes", "Bytes lacking to the floor, where nothing may go"),
    ("condemned_chunks", "Chunks about to be deleted"),
)
_VOLUME_COUNTERS: Final = (
    ("deleted_chunks", "Chunks deleted since the recorder's start"),
    ("deleted_bytes", "Bytes deleted since the recorder's start"),
)
_STREAM_COUNTERS: Final = (
    ("media_bytes", "Media bytes received"),
    ("frames", "Pictures received"),
    ("packets", "RTP packets received"),
    ("lost_packets", "RTP packets lost"),
    ("dropped_gops", "GOPs dropped to keep a bound"),
    ("media_jumps", "Jumps of the camera's RTP timestamps, bridged by arrival"),
    ("reconnects", "Times the camera was reconnected"),
)


class Metrics:
    """The metrics of one app."""

    def __init__(self, context: Context) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "keyreel_http_requests", "Answers by call and status", ("call", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "keyreel_http_request_seconds",
            "Time to the end of the answer, by call; live views are left out",
            ("call",),
            registry=self.registry,
            buckets=_BUCKETS_S,
        )
        self.media_bytes = Counter("keyreel_media_sent_bytes", "Media bytes handed to clients", registry=self.registry)
        for bound in (context.requests, context.clips, context.live):
            name = bound.what.replace(" ", "_")
            gauge = Gauge(f"keyreel_{name}_now", f"{bound.what} being served", registry=self.registry)
            gauge.set_function(partial(_held, bound))
        rested = Gauge(
            "keyreel_read_rest_seconds", "Readers' waiting for volumes to rest, so far", registry=self.registry
        )
        rested.set_function(lambda: context.ration.rested_s)
        self.registry.register(_RecorderCollector(context))

    def text(self) -> bytes:
        """The scrape's answer."""
        return generate_latest(self.registry)


def _held(bound: Bound) -> float:
    return bound.held


METRICS: Final = web.AppKey("metrics", Metrics)


async def metrics(ask: Ask[NoQuery, None]) -> web.Response:
    """GET /metrics."""
    text = await ask.context.workers.run(INDEX_LANE, ask.request.app[METRICS].text)
    return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE, "Cache-Control": "no-store"})


class _RecorderCollector(Collector):
    """The recorder's status as metrics."""

    def __init__(self, context: Context) -> None:
        self._context = context

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        status = self._context.recorder_status()
        now_us = wall_us()
        speaks = status is not None and abs(now_us - status.updated_us) < FRESH_US
        up = status is not None and speaks and not status.silent
        yield GaugeMetricFamily("keyreel_recorder_up", "1 while all recorder processes report", value=float(up))
        if status is not None and speaks:
            yield from _worker_metrics(status)
            yield from _stream_metrics(status, stored_now_us(status, now_us))
            yield from _clock_metrics(status)
            yield from _ledger_metrics(status)
            yield from _index_metrics(status)
            yield from _volume_metrics(status)
            yield from _overload_metrics(status)


def _worker_metrics(status: RecorderStatus) -> Iterator[Metric]:
    """By worker what starts at nothing again with each process, else a sum would seem to fall."""
    up = GaugeMetricFamily("keyreel_recorder_worker_up", "1 while this recorder process reports", labels=("worker",))
    overloads = CounterMetricFamily("keyreel_overload_episodes", "Times of overload begun", labels=("worker",))
    written = CounterMetricFamily("keyreel_volume_written_bytes", "Bytes written", labels=("volume", "worker"))
    for number in status.silent:
        up.add_metric((str(number),), 0.0)
    for worker in status.running:
        label = str(worker.worker)
        up.add_metric((label,), 1.0)
        overloads.add_metric((label,), worker.overload_episodes)
        for volume, count in worker.written_bytes.items():
            written.add_metric((volume, label), float(count))
    yield from (up, overloads, written)


def _stream_metrics(status: RecorderStatus, now_us: int) -> Iterator[Metric]:
    state = GaugeMetricFamily("keyreel_stream_recording", "1 while the stream is recorded", labels=("stream",))
    lag = GaugeMetricFamily(
        "keyreel_stream_durable_lag_seconds",
        "Age of the watermark: video before it survives a power cut",
        labels=("stream",),
    )
    for stream in status.streams:
        state.add_metric((stream.name,), float(stream.state == "recording"))
        if stream.durable_until_us:
            lag.add_metric((stream.name,), (now_us - stream.durable_until_us) / 1e6)
    yield state
    yield lag
    yield from _signature_metrics(status)
    for field, text in _STREAM_GAUGES:
        gauge = GaugeMetricFamily(f"keyreel_stream_{field}", text, labels=("stream",))
        for stream in status.streams:
            if (value := getattr(stream, field)) is not None:
                gauge.add_metric((stream.name,), float(value))
        yield gauge
    for field, text in _STREAM_COUNTERS:
        counter = CounterMetricFamily(f"keyreel_stream_{field}", text, labels=("stream",))
        for stream in status.streams:
            counter.add_metric((stream.name,), float(getattr(stream, field)))
        yield counter


def _signature_metrics(status: RecorderStatus) -> Iterator[Metric]:
    verdict = GaugeMetricFamily(
        "keyreel_stream_signature",
        "1 for what the camera's own signature was last found to be",
        labels=("stream", "verdict"),
    )
    stopped = GaugeMetricFamily(
        "keyreel_stream_signature_stopped", "1 while a camera that signed its pictures does not", labels=("stream",)
    )
    for stream in status.streams:
        if stream.signature is not None:
            verdict.add_metric((stream.name, stream.signature.verdict), 1.0)
            stopped.add_metric((stream.name,), float(stream.signature.stopped_us > 0))
    yield verdict
    yield stopped


def _ledger_metrics(status: RecorderStatus) -> Iterator[Metric]:
    ledger = status.ledger
    if ledger is None:
        return
    text = "1 while all ledgers can be written and signed"
    yield GaugeMetricFamily("keyreel_ledger_sound", text, value=float(not ledger.reason))
    yield GaugeMetricFamily("keyreel_ledger_waiting_entries", "Entries that wait for the disk", value=ledger.waiting)
    yield GaugeMetricFamily("keyreel_ledger_missed_entries", "Entries let go of", value=ledger.missed)


def _clock_metrics(status: RecorderStatus) -> Iterator[Metric]:
    clock = status.clock
    if clock is None:
        return
    text = "1 while the age of footage can be told: clock synchronised, followed, not stepped in the last hour"
    yield GaugeMetricFamily("keyreel_clock_trusted", text, value=float(clock.trusted))
    text = "Stored time minus the node's clock"
    yield GaugeMetricFamily("keyreel_clock_ahead_seconds", text, value=clock.ahead_us / 1e6)
    text = "Bound of stored time's error, 0 unknown"
    yield GaugeMetricFamily("keyreel_clock_error_seconds", text, value=clock.error_us / 1e6)
    yield CounterMetricFamily("keyreel_clock_steps", "Steps of the node's clock", value=clock.steps)


def _index_metrics(status: RecorderStatus) -> Iterator[Metric]:
    text = "Chunks that the index will read again from their files"
    yield GaugeMetricFamily("keyreel_index_behind_chunks", text, value=status.index_behind_chunks)
    text = "Records that wait for the index"
    yield GaugeMetricFamily("keyreel_index_backlog_records", text, value=status.index_backlog_records)
    text = "For so long the index's disk has not answered, 0 it does"
    yield GaugeMetricFamily("keyreel_index_hung_seconds", text, value=status.index_hung_s)


def _overload_metrics(status: RecorderStatus) -> Iterator[Metric]:
    now = [one for one in status.overloads if not one.until_us]
    active = GaugeMetricFamily("keyreel_overload_active", "1 while disk or CPU cannot keep up", labels=("cause",))
    waiting = GaugeMetricFamily("keyreel_overload_waiting_streams", "Left out at this moment", labels=("cause",))
    for cause in get_args(OverloadCause):
        active.add_metric((cause,), float(any(one.cause == cause for one in now)))
        waiting.add_metric((cause,), float(sum(one.waiting for one in now if one.cause == cause)))
    yield active
    yield waiting
    yield GaugeMetricFamily("keyreel_media_memory_bytes", "Media in the recorder's memory", value=status.media_bytes)
    text = "Bound of the media in the recorder's memory"
    yield GaugeMetricFamily("keyreel_media_memory_bound_bytes", text, value=status.media_bytes_max)
    text = "How late the recorder's event loop is at worst"
    yield GaugeMetricFamily("keyreel_loop_lag_seconds", text, value=status.loop_lag_ms / 1e3)


def _volume_metrics(status: RecorderStatus) -> Iterator[Metric]:
    for field, text in _VOLUME_GAUGES:
        gauge = GaugeMetricFamily(f"keyreel_volume_{field}", text, labels=("volume",))
        for volume in status.volumes:
            if (value := getattr(volume, field)) is not None:
                gauge.add_metric((volume.id,), float(value))
        yield gauge
    for field, text in _VOLUME_COUNTERS:
        counter = CounterMetricFamily(f"keyreel_volume_{field}", text, labels=("volume",))
        for volume in status.volumes:
            counter.add_metric((volume.id,), float(getattr(volume, field)))
        yield counter
    paused = GaugeMetricFamily(
        "keyreel_volume_deleting_paused", "1 while deleting pauses, and why", labels=("volume", "reason")
    )
    for volume in status.volumes:
        if volume.deleting_paused:
            paused.add_metric((volume.id, volume.deleting_paused), 1.0)
    yield paused
    states = GaugeMetricFamily("keyreel_volume_state", "1 for the state the volume is in", labels=("volume", "state"))
    for volume in status.volumes:
        for state in get_args(VolumeState):
            states.add_metric((volume.id, state), float(volume.state == state))
    yield states
    yield from _scrub_metrics(status)


def _scrub_metrics(status: RecorderStatus) -> Iterator[Metric]:
    for field, text in (
        ("bytes", "Bytes read again in the turn going on or the last one"),
        ("known_damage", "Fragments and chunks that are damaged"),
        ("last_ended_us", "When the last whole turn ended, microseconds of UTC since 1970, 0 never"),
    ):
        gauge = GaugeMetricFamily(f"keyreel_volume_scrub_{field}", text, labels=("volume",))
        for volume in status.volumes:
            if volume.scrub is not None:
                gauge.add_metric((volume.id,), float(getattr(volume.scrub, field)))
        yield gauge
    index = GaugeMetricFamily(
        "keyreel_index_whole", "1 when every chunk is in the index", value=float(status.index.whole)
    )
    yield index
    yield CounterMetricFamily("keyreel_index_renewals", "Times the index was made again", value=status.index.renewals)
