from __future__ import annotations

import re
from pathlib import Path
from struct import Struct

import msgspec
import pytest

from index import register, schema
from index.environment import MAP_BYTES
from index.expire import Garbage, Rule
from native import keyblock

PAGE = (Path(__file__).parents[2] / "docs" / "format" / "index.md").read_text()


def section(title: str) -> str:
    found = re.search(rf"^##+ {re.escape(title)}.*?(?=^##|\Z)", PAGE, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found.group()


def first_column(text: str) -> list[str]:
    cells = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
    return cells[2:]


def test_the_page_names_every_database_in_order() -> None:
    table = section("Databases").split("Keys:")[0]
    assert first_column(table) == [f"`{name.decode()}`" for name in schema.DATABASES]
    assert len(schema.Handles._fields) == len(schema.DATABASES)


def test_the_page_names_every_meta_row() -> None:
    table = section("Databases").split("Letters")[1]
    names = (
        *(schema.META_FORMAT, schema.META_NODE, schema.META_REGISTER),
        *(schema.META_INCOMPLETE, schema.META_NEXT_STREAM, schema.META_NEXT_HOLD),
    )
    assert first_column(table) == [f"`{name.decode()}`" for name in names]
    assert f"# The index, format {schema.FORMAT_VERSION}\n" in PAGE
    assert f"| `format` | `{schema.FORMAT_VERSION}`," in PAGE
    assert f"`{{format: {register.FORMAT_VERSION}, version," in PAGE


@pytest.mark.parametrize(
    ("layout", "text"),
    [
        (schema.STREAM_KEY, "stream `{}`;"),
        (schema.TIME_KEY, "stream and time `{}`;"),
        (schema.SEQUENCE_KEY, "stream and sequence or epoch `{}`."),
        (schema.CHUNK, "### Chunk row, `{}`, {} bytes\n"),
        (schema.OPEN_CHUNK, "### Open chunk row, `{}` + `<Q` + block\n"),
        (schema.GAP, "### Gap row, `{}`, {} bytes\n"),
        (schema.HOLD_KEY, "Hold `{}`;"),
        (schema.USAGE_KEY, "stream and volume `{}`."),
        (schema.USAGE, "### Usage row, `{}`, {} bytes\n"),
        (schema.END, "### End row, `{}`, {} bytes\n"),
    ],
)
def test_layouts_are_as_on_the_page(layout: Struct, text: str) -> None:
    assert text.format(layout.format, layout.size) in PAGE


def test_fields_are_as_on_the_page() -> None:
    types = {"u4": "u32", "u8": "u64", "u1": "u8", "i8": "i64", "V16": "16 bytes"}
    for title, dtype in (("Chunk row", schema.CHUNK_DTYPE), ("Gap row", schema.GAP_DTYPE)):
        cells = [line.split("|") for line in section(title).splitlines() if line.startswith("|")][2:]
        told = [(cell[1].strip(), cell[2].strip()) for cell in cells]
        fields = [(name, types[kind.lstrip("<|")]) for name, kind in dtype.descr]
        assert told == fields
    assert schema.CHUNK_DTYPE.itemsize == schema.CHUNK.size
    assert schema.GAP_DTYPE.itemsize == schema.GAP.size
    assert (schema.CHUNK_SEALED, schema.OPEN_SUPERSEDED) == (1, 1)


def test_garbage_is_as_on_the_page() -> None:
    told = section("Garbage row")
    assert first_column(told) == [field.name for field in msgspec.structs.fields(Garbage)]
    assert ", ".join(f"{rule.value} {rule.name.lower()}" for rule in Rule) in told


def test_bounds_are_as_on_the_page() -> None:
    assert f"At most {keyblock.KEY_FRAMES_MAX} key frames" in PAGE
    assert f"at most {schema.STREAM_NAME_BYTES_MAX} bytes" in PAGE
    assert f"to {schema.HALF_PAGE_BYTES:,} bytes" in PAGE
    assert f"shorter than {schema.ROW_KEY_BYTES_MIN} bytes" in PAGE
    assert f"{MAP_BYTES >> 30} GiB of address space" in PAGE
    assert schema.PAGE_HEAD_SUFFIX == b"\0"
