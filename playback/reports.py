"""What was found on the volumes and in the index, and what became of it.

Kept true: the answer comes from the status file but for the lists of damage, which lie on their volumes: one that does
not answer is named, and holds up nobody but its own lane.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Final

from base.clock import wall_us
from base.errors import KeyreelError
from base.status import IndexStatus, RecoveryStatus, VolumeStatus
from base.units import format_time
from chunks.scrubreport import Damage, read_report
from playback.calls import Ask, NoQuery
from playback.problems import Problem
from playback.schema_upkeep import DamageView, IndexView, RecoveryView, ReportsView
from playback.streams import moment, recorder_view

DAMAGE_MAX: Final = 200


async def reports(ask: Ask[NoQuery, None]) -> ReportsView:
    """GET /reports."""
    now_us = wall_us()
    status = ask.context.recorder_status()
    recorder = recorder_view(status, now_us)
    if status is None or not recorder.running:
        return ReportsView(now=format_time(now_us), recorder=recorder, index=None, recoveries=[], damage=[])
    damage: list[tuple[str, Damage]] = []
    unread: list[str] = []
    for volume in status.volumes:
        try:
            damage += [(volume.id, one) for one in await _damage_on(ask, volume)]
        except (Problem, KeyreelError):
            unread.append(volume.path)
    damage.sort(key=lambda pair: -pair[1].found_us)
    return ReportsView(
        now=format_time(now_us),
        recorder=recorder,
        index=_index(status.index),
        recoveries=[_recovery(one) for one in status.recoveries],
        damage=[_damage(volume, one) for volume, one in damage[:DAMAGE_MAX]],
        unread=unread,
    )


async def _damage_on(ask: Ask[NoQuery, None], volume: VolumeStatus) -> list[Damage]:
    """Asked of the disk only when the recorder says that there is some."""
    if volume.scrub is None or not volume.scrub.known_damage:
        return []
    read = partial(read_report, Path(volume.path))
    return (await ask.context.workers.run(bytes.fromhex(volume.id), read)).damage


def _index(index: IndexStatus) -> IndexView:
    return IndexView(
        whole=index.whole,
        chunks_done=index.chunks_done,
        chunks_total=index.chunks_total,
        findings=index.findings,
        renewals=index.renewals,
        made=moment(index.made_us),
        why=index.why,
        verified=moment(index.verified_us),
    )


def _recovery(one: RecoveryStatus) -> RecoveryView:
    return RecoveryView(
        volume=one.volume,
        path=one.path,
        time=moment(one.since_us),
        done=one.done,
        torn=one.torn,
        sealed=one.sealed,
        cut_bytes=one.cut_bytes,
        aside=one.aside,
        missed=one.missed,
        failed=one.failed,
    )


def _damage(volume: str, one: Damage) -> DamageView:
    return DamageView(
        volume=volume,
        stream=one.stream,
        start=format_time(one.start_us),
        end=format_time(one.end_us),
        bytes=one.length,
        what=one.what,
        found=format_time(one.found_us),
    )
