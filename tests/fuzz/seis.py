"""What a camera says of its own signatures."""

from __future__ import annotations

from base.errors import DamageError
from evidence.mediasigning.sei import SEI_BYTES_MAX, is_signing_sei, parse_sei
from tests.fuzz.feed import Feed

_UUID = bytes.fromhex("005bc93f2d715e95ada4796f90877a6f")


def sei(data: bytes) -> None:
    """What is signed lies in the SEI; what is listed has the length of a hash. Half of the inputs get past the door."""
    feed = Feed(data)
    head, wrapped = 1 + feed.u(1) % 2, feed.u(1) % 2
    payload = feed.rest()
    if wrapped:
        size = 16 + len(payload)
        payload = b"\5" + b"\xff" * (size // 255) + bytes((size % 255,)) + _UUID + payload + b"\x80"
    nal = bytes((6, 1)[:head]) + payload
    assert is_signing_sei(nal, head) or not wrapped or len(nal) < head + 18
    try:
        found = parse_sei(nal, head)
    except DamageError:
        return
    assert len(found.document) <= len(found.whole) <= len(nal) <= SEI_BYTES_MAX
    assert found.general is None or {len(one) for one in found.hashes} <= {len(found.general.gop_hash)}
