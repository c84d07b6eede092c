"""Cameras from CSV text: what each row says, what is wrong with it, and what it would change in the register.

Kept true: every row has a verdict of its own, with its line; a password stands in no message; nothing is written here.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from base.errors import UserError
from index.register import Camera

Change = Literal["add", "change", "same", "exists", "wrong"]
ROWS_MAX: Final = 100_000
BYTES_MAX: Final = 32 << 20
FIELDS: Final = tuple(name for name in Camera.__struct_fields__ if name != "demanded_until_us")
_FLAGS: Final = {"": None, "1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@dataclass(slots=True)
class Row:
    """One row: its camera, or what is wrong; `change` and `fields` say what it would do to the register."""

    line: int
    id: str
    camera: Camera | None = None
    wrong: str = ""
    change: Change = "wrong"
    fields: list[str] = field(default_factory=list)


def is_blotted(address: str) -> bool:
    """Whether an address went through `redact`, so that its password is not in it any more."""
    return "***@" in address or "=***" in address


def read_rows(text: str, where: str = "") -> list[Row]:
    """Every row below the head line; `UserError` when the text as a whole is not such a table."""
    at = f"{where}, line" if where else "line"
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    fields: list[str] = []
    rows: list[Row] = []
    try:
        for line, values in _lines(reader):
            if not fields:
                fields = _head(values, at)
            elif values:
                if len(rows) >= ROWS_MAX:
                    raise UserError(f"{at} {line}: more than {ROWS_MAX} cameras; split the file", reason="bad-csv")
                rows.append(_row(line, fields, values))
    except csv.Error as error:
        raise UserError(f"{at} {reader.line_num}: not CSV: {error}", reason="bad-csv") from None
    if not fields:
        _head([], at)
    _refuse_twins(rows)
    return rows


def judge(rows: Iterable[Row], known: Mapping[str, Camera], *, replace: bool) -> None:
    """Say of each row what it does to a register; a request to record outlives a change of the camera."""
    for row in rows:
        if row.camera is None:
            continue
        old = known.get(row.id)
        if old is None:
            row.change, row.fields = "add", []
            continue
        row.camera = msgspec.structs.replace(row.camera, demanded_until_us=old.demanded_until_us)
        row.fields = [name for name in FIELDS if getattr(old, name) != getattr(row.camera, name)]
        row.change = "same" if not row.fields else "change" if replace else "exists"


def _lines(reader: Any) -> Iterator[tuple[int, list[str]]]:
    """(line at which a row begins, its values); a quoted value may hold line ends."""
    line = 1
    for values in reader:
        yield line, values
        line = reader.line_num + 1


def _head(values: list[str], at: str) -> list[str]:
    fields = [value.strip().removeprefix("\ufeff") for value in values]
    if set(fields) - set(FIELDS) or not {"id", "main"} <= set(fields) or len(set(fields)) != len(fields):
        known = ", ".join(FIELDS)
        raise UserError(
            f"{at} 1: the head line must name id and main, once, and no others than {known}", reason="bad-csv"
        )
    return fields


def _row(line: int, fields: list[str], texts: list[str]) -> Row:
    texts = [text.strip() for text in texts]
    row = Row(line, dict(zip(fields, texts, strict=False)).get("id", "")[:64])
    if len(texts) != len(fields):
        row.wrong = f"has {len(texts)} values, the head line names {len(fields)}; put a value with a comma into quotes"
        return row
    values: dict[str, Any] = {}
    try:
        for name, text in zip(fields, texts, strict=True):
            if name in ("allow_basic", "tls_verify", "enabled"):
                if (flag := _FLAGS[text.lower()]) is not None:
                    values[name] = flag
            elif text:
                values[name] = int(text) if name == "pre_record_s" else text
        row.camera = _camera(values)
    except KeyError as error:
        row.wrong = f"{error.args[0][:40]!r} is not yes or no"
    except ValueError:
        row.wrong = "pre_record_s is not a whole number"
    except UserError as error:
        row.wrong = str(error)
    return row


def _camera(values: dict[str, Any]) -> Camera:
    for name in ("id", "main"):
        if name not in values:
            raise UserError(f"{name} is empty; every camera needs one")
    if any(is_blotted(values.get(name, "")) for name in ("main", "sub")):
        raise UserError("the address carries *** in place of a password; write the real one")
    return Camera(**values)


def _refuse_twins(rows: list[Row]) -> None:
    first: dict[str, int] = {}
    for row in rows:
        if row.camera is not None and first.setdefault(row.id, row.line) != row.line:
            row.camera = None
            row.wrong = f"camera {row.id} is there twice, first in line {first[row.id]}; keep one of the two"
