"""The report for people: one HTML page in Vietnamese and English, complete in itself.

Kept true: it says what the manifest says and nothing else; everything a person typed is escaped; it loads nothing from
anywhere; its pictures are copies for the eye, and say so.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from html import escape
from typing import Any, Final, NamedTuple

from base.units import parse_time, utc
from export.words import CAUSES, PAGE, Words

GAPS_TOLD_MAX: Final = 200  # of a stream; the manifest has all
_WIDTH: Final = 1000
_BAR: Final = 26
_COLOURS: Final = {
    "offline": "#b5482a",
    "no_media": "#c46f1d",
    "packet_loss": "#d3a021",
    "overload": "#8a4fa3",
    "stopped": "#6f7780",
    "crash": "#8e1f2f",
    "damage": "#d11f3a",
    "clock": "#2f6fb0",
    "volume": "#5b3b8c",
    "undecodable": "#a0763f",
    "not_wanted": "#b9c0c6",
    "expired": "#4a5157",
    "after_watermark": "#dfe4e8",
    "unknown": "#111417",
}
_STYLE: Final = """
body{font:15px/1.5 system-ui,sans-serif;color:#16191c;max-width:1040px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem;margin:0 0 .2rem}h2{font-size:1.15rem;margin:2rem 0 .4rem;border-bottom:1px solid #ccd2d7}
h3{font-size:1rem;margin:1.2rem 0 .3rem}small,.en{color:#5a636b}code{font-size:.85em;word-break:break-all}
table{border-collapse:collapse;width:100%;font-size:.92em}td,th{text-align:left;vertical-align:top;padding:.25rem .5rem;
border-bottom:1px solid #e4e8eb}th{font-weight:600;width:30%}table.wide th{width:auto}
.pictures{display:grid;grid-template-columns:repeat(3,1fr);gap:.5rem}.pictures figure{margin:0}
.pictures img{width:100%;display:block}figcaption{font-size:.78em;color:#5a636b}
.key{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 .9em}svg{width:100%;height:auto}
@media print{body{margin:0}h2{break-after:avoid}figure,tr{break-inside:avoid}}
"""


class Picture(NamedTuple):
    """A key picture: when, and as a JPEG."""

    at: str
    jpeg: bytes


def html_report(manifest: dict[str, Any], key_name: str, pictures: dict[str, list[Picture]]) -> bytes:
    """The page."""
    streams = manifest["streams"]
    parts = [
        f'<!doctype html><html lang="vi"><meta charset="utf-8"><title>{escape(manifest["case"])}</title>',
        f"<style>{_STYLE}</style><h1>{_say(PAGE['title'])}</h1>",
        _table(
            [
                (PAGE["case"], escape(manifest["case"])),
                (PAGE["reason"], escape(manifest["reason"])),
                (PAGE["operator"], escape(manifest["operator"])),
                (PAGE["created"], _time(manifest["created"])),
                (PAGE["asked"], _range(manifest["asked"])),
                (PAGE["export"], f"<code>{manifest['export']}</code>"),
                (PAGE["node"], f"{escape(manifest['node']['name'])} <code>{manifest['node']['id']}</code>"),
                (PAGE["software"], escape(manifest["software"])),
                (PAGE["key"], f"<code>{key_name}</code>"),
            ]
        ),
        f"<h2>{_say(PAGE['chart'])}</h2>",
        _chart(manifest),
        *(_stream(one, pictures.get(one["stream"], [])) for one in streams),
        f"<h2>{_say(PAGE['check'])}</h2>",
        *(f"<p>{_say(words)}</p>" for words in (PAGE["check_how"], PAGE["check_key"], PAGE["check_means"])),
    ]
    return "\n".join(parts).encode()


def _say(words: Words) -> str:
    if words.vi == words.en:
        return escape(words.vi)
    return f'{escape(words.vi)} <span class="en">/ {escape(words.en)}</span>'


def _time(text: str) -> str:
    """In UTC, and by the recorder's own zone where that is another one."""
    local = utc(parse_time(text)).astimezone()
    told = text.replace("T", " ").replace("Z", " UTC")
    return f"{told} ({local:%d.%m.%Y %H:%M:%S %z})" if local.utcoffset() else told


def _range(document: dict[str, str]) -> str:
    return f"{_time(document['start'])} – {_time(document['end'])}"


def _table(rows: Iterable[tuple[Words, str]]) -> str:
    return "<table>" + "".join(f"<tr><th>{_say(words)}<td>{value}" for words, value in rows) + "</table>"


def _chart(manifest: dict[str, Any]) -> str:
    """A bar for each stream over the range asked for: footage green, each gap in the colour of its cause."""
    start_us, end_us = (parse_time(manifest["asked"][word]) for word in ("start", "end"))
    height = len(manifest["streams"]) * (_BAR + 20) + 24
    parts = [f'<svg viewBox="0 0 {_WIDTH} {height}" role="img">']
    causes: dict[str, None] = {}
    for row, stream in enumerate(manifest["streams"]):
        top = row * (_BAR + 20) + 16
        parts.append(f'<text x="0" y="{top - 4}" font-size="13">{escape(stream["stream"])}</text>')
        parts.append(f'<rect x="0" y="{top}" width="{_WIDTH}" height="{_BAR}" fill="#2f8f5b"/>')
        for gap in stream["gaps"]:
            causes[gap["cause"]] = None
            low, high = ((parse_time(gap[word]) - start_us) * _WIDTH / (end_us - start_us) for word in ("start", "end"))
            colour, label = _COLOURS.get(gap["cause"], "#000"), CAUSES[gap["cause"]]
            parts.append(
                f'<rect x="{low:.2f}" y="{top}" width="{max(high - low, 0.5):.2f}" height="{_BAR}" fill="{colour}">'
                f"<title>{_range(gap)}: {escape(label.vi)} / {escape(label.en)}</title></rect>"
            )
    parts.append(f'<text x="0" y="{height - 4}" font-size="12">{_time(manifest["asked"]["start"])}</text>')
    parts.append(
        f'<text x="{_WIDTH}" y="{height - 4}" font-size="12" text-anchor="end">{_time(manifest["asked"]["end"])}</text>'
        "</svg>"
    )
    legend = [f'<span class="key" style="background:#2f8f5b"></span>{_say(PAGE["footage"])}']
    for cause in causes:
        legend.append(
            f'<span class="key" style="background:{_COLOURS.get(cause, "#000")}"></span>{_say(CAUSES[cause])}'
        )
    return "".join(parts) + f"<p>{''.join(legend)}</p>"


def bound(errors_us: list[int]) -> str:
    """The greatest error there can be; unknown when it is of any chunk, which is stored as 0."""
    return f"≤ {max(errors_us) / 1000:.1f} ms" if min(errors_us) > 0 else _say(PAGE["no_bound"])


def _stream(stream: dict[str, Any], pictures: list[Picture]) -> str:
    """What is said of one stream."""
    parts = [f"<h2>{escape(stream['stream'])}</h2>"]
    rows: list[tuple[Words, str]] = [(PAGE["camera"], escape(" ".join(filter(None, stream["camera"].values()))))]
    if stream["file"]:
        hidden = stream["hidden"]
        kinds = [f"{one['codec']} {one['width']}×{one['height']}" for one in stream["epochs"]]
        codecs = ", ".join(dict.fromkeys(kinds))
        clocks = sorted({one["clock"]["state"] for one in stream["chunks"]})
        errors_us = [one["clock"]["error_us"] for one in stream["chunks"]]
        spread = stream["clock"]["camera_less_stored_us"]
        rows += [
            (PAGE["file"], f"<code>{stream['file']}</code>"),
            (Words("SHA-256", "SHA-256"), f"<code>{stream['mp4']['sha256']}</code>"),
            (PAGE["shown"], _range(stream["shown"])),
            (PAGE["delivered"], _range(stream["delivered"])),
            (PAGE["hidden"], f"{hidden['before_us'] / 1e6:.3f} s + {hidden['after_us'] / 1e6:.3f} s"),
            (PAGE["codec"], codecs),
            (PAGE["fragments"], f"{stream['mp4']['fragments']} / {stream['mp4']['pictures']}"),
            (PAGE["losses"], f"{stream['losses']['lost_packets']} / {stream['losses']['incomplete_pictures']}"),
            (PAGE["clock"], f"{', '.join(clocks)}; {bound(errors_us)}"),
            (PAGE["camera_clock"], f"{spread[0] / 1e6:.3f} … {spread[2] / 1e6:.3f} s" if spread else "–"),
            (PAGE["ledger"], f"<code>{stream['ledger']}</code>" if stream["ledger"] else _say(PAGE["no_ledger"])),
        ]
    else:
        parts.append(f"<p>{_say(PAGE['no_footage'])}</p>")
    parts.append(_table(rows))
    parts.append(_gaps(stream["gaps"]))
    if pictures:
        parts.append(f'<h3>{_say(PAGE["pictures"])}</h3><div class="pictures">')
        for one in pictures:
            data = base64.b64encode(one.jpeg).decode()
            parts.append(
                f'<figure><img alt="" src="data:image/jpeg;base64,{data}"><figcaption>{_time(one.at)}</figure>'
            )
        parts.append("</div>")
    return "\n".join(parts)


def _gaps(gaps: list[dict[str, Any]]) -> str:
    """The absences, each with its cause."""
    if not gaps:
        return f"<p>{_say(PAGE['no_gaps'])}</p>"
    rows = []
    for gap in gaps[:GAPS_TOLD_MAX]:
        lasts_s = (parse_time(gap["end"]) - parse_time(gap["start"])) / 1e6
        rows.append(f"<tr><td>{_time(gap['start'])}<td>{lasts_s:.3f} s<td>{_say(CAUSES[gap['cause']])}")
    head = f"<h3>{_say(PAGE['gaps'])} ({len(gaps)})</h3><table class='wide'>"
    more = f"<p>+ {len(gaps) - GAPS_TOLD_MAX} (manifest.json)</p>" if len(gaps) > GAPS_TOLD_MAX else ""
    return head + "".join(rows) + "</table>" + more
