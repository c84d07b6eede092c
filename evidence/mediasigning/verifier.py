"""A stream's NAL units in order → a verdict for each part that the camera signed, as soon as it is certain.

Kept true: no media is kept, only hashes; units that wait, parts that wait and SEIs without pictures are bounded; parts
are told in the order of the stream. Nothing that an SEI says counts before its signature was verified, but where to
look.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from typing import Final, NamedTuple

from base.errors import DamageError
from base.media import VideoCodec
from evidence.mediasigning.certificates import Key, Provenance, Trust, read_key
from evidence.mediasigning.match import Found, Unit, find, gop_starts
from evidence.mediasigning.parts import Draft, Part, Reason
from evidence.mediasigning.sei import HASH_NAMES, General, Sei, Vendor, is_signing_sei, parse_sei
from evidence.mediasigning.units import Kind, Nal, header_bytes, kind_of, without_trailing_zeros

GOPS_HELD: Final = 32  # without an SEI that fits them; then they are told as not signed
UNITS_HELD: Final = 1 << 16
PARTS_HELD: Final = 1024  # that wait for the signature over their unsigned SEIs
SEIS_HELD: Final = 64  # that fit no units yet
_RECENT: Final = 16  # SEIs remembered, to know a repeated one
_NO_FORGERY: Final = (Reason.NONE, Reason.NO_KEY)


class _Last(NamedTuple):
    """The last part found: its number, and the hashes by which the next one may name it; empty when not known."""

    counter: int
    links: frozenset[bytes]


class _Chained:
    """How one hash algorithm sees the units: linked to the key picture that leads them."""

    def __init__(self, name: str) -> None:
        self._new: Callable[..., hashlib._Hash] = getattr(hashlib, name)
        self._anchor = b""

    def unit(self, nal: Nal, starts: bool) -> bytes:
        own = self._new(nal).digest()
        if starts:
            self._anchor = own
            return own
        return self._new(self._anchor + own).digest()

    def alone(self, data: bytes) -> bytes:
        return self._new(data).digest()


class _Waiting(NamedTuple):
    """A signing SEI, and what its signature is worth."""

    sei: Sei
    general: General
    counter: int
    wrong: Reason
    signer: Key | None
    time_us: int

    @property
    def units(self) -> int:
        """That it speaks of."""
        return len(self.sei.hashes) or self.general.units


class Verifier:
    """Feed it every NAL unit of a video stream, with the stored time of its picture."""

    def __init__(self, codec: VideoCodec, trust: Trust | None = None) -> None:
        self.signed = False  # a signing SEI was seen
        self.vendor: Vendor | None = None
        self._h265, self._head = codec == "h265", header_bytes(codec)
        self._trust = trust or Trust()
        self._chained = [_Chained(name) for name in HASH_NAMES]  # all, until the camera's is known
        self._hash_name = HASH_NAMES[0]
        self._keys: dict[bool, Key] = {}  # by "user provisioned"
        self._keyless = True  # the SEI in hand came before any certificate
        self._settled: Key | None = None  # that signed the last good SEI
        self._units: list[Unit] = []
        self._gops = 0
        self._waiting: list[_Waiting] = []
        self._unreadable = 0
        self._torn = False  # something is known to be missing since the last part
        self._recent: deque[bytes] = deque(maxlen=_RECENT)
        self._last: _Last | None = None
        self._big_endian = True
        self._drafts: deque[Draft] = deque()
        self._lag_units: int | None = None  # the most that came between a part and its SEI

    @property
    def gops_held(self) -> int:
        """GOPs that have begun and wait for a signature."""
        return self._gops

    def learn(self, nal: Nal) -> None:
        """Take the camera's certificate from a NAL unit that is not part of the stream; others are passed over."""
        if kind_of(nal, self._h265) is not Kind.SEI or not is_signing_sei(nal, self._head):
            return
        with suppress(DamageError):
            sei = parse_sei(without_trailing_zeros(nal), self._head)
            if sei.is_certificate:
                self._learn(sei, 0)

    def feed(self, nal: Nal, time_us: int) -> list[Part]:
        """The next NAL unit, without start code or length; parts that are certain now."""
        kind = kind_of(nal, self._h265)
        if kind is Kind.OTHER:
            return []
        nal = without_trailing_zeros(nal)
        if kind is Kind.SEI:
            return self._take(nal, time_us) if is_signing_sei(nal, self._head) else []
        starts = kind is Kind.GOP_START
        self._units.append(Unit(tuple(one.unit(nal, starts) for one in self._chained), time_us, starts))
        self._gops += starts
        if self._gops <= GOPS_HELD and len(self._units) <= UNITS_HELD:
            return []
        starts_at = [start for start in gop_starts(self._units) if start]
        self._explain(starts_at[0] if starts_at else len(self._units))
        return self._told()

    def interrupt(self) -> None:
        """Here something is known to be missing: what was signed last may have its signature there."""
        self._torn = True
        if self._units:
            self._units[-1].ends = True

    def finish(self) -> list[Part]:
        """The stream ends here: all that is left."""
        self._explain(len(self._units), final=True)
        for draft in self._drafts:
            draft.settle(Reason.DANGLING)
        return self._told()

    # -- SEIs ---------------------------------------------------------------------------------------------------------

    def _take(self, nal: Nal, time_us: int) -> list[Part]:
        """A signing SEI."""
        self.signed = True
        try:
            sei = parse_sei(nal, self._head)
            signer = self._learn(sei, time_us) if sei.signature is not None else None
        except DamageError:
            self._unreadable = min(self._unreadable + 1, SEIS_HELD)
            return []
        if not sei.is_certificate:
            draft = None
            if sei.general is not None and not self._repeated(sei):
                draft = self._place(sei, sei.general, signer, time_us)
            if sei.signature is None:
                digests = tuple(one.alone(sei.whole) for one in self._chained)
                self._units.append(Unit(digests, time_us, is_sei=True, describes=draft))
        return self._told()

    def _learn(self, sei: Sei, time_us: int) -> Key | None:
        """The key that signed an SEI; with it count the certificates, hash algorithm and vendor that the SEI brings.

        A certificate SEI counts only by the manufacturer's key in it. What comes with another key than that of the
        parts before is taken over only if a trusted certificate stands behind it.
        """
        brought = {user: read_key(pem) for user, pem in sei.chains}
        keys = brought if sei.is_certificate else self._keys | brought
        name = sei.hash_name or self._hash_name
        digest = hashlib.new(name, sei.document).digest()
        self._keyless = not keys
        for user in (False,) if sei.is_certificate else (True, False):
            key = keys.get(user)
            if key is not None and key.verifies(sei.signature or b"", digest, name, sei.signing_oid):
                if self._is_known(brought) or self._trust.judge(key, time_us) is Provenance.TRUSTED:
                    self._keys |= brought
                    self.vendor = sei.vendor or self.vendor
                    self._use_hash(name)
                return key
        return None

    def _is_known(self, brought: dict[bool, Key]) -> bool:
        settled = self._settled
        return settled is None or not brought or any(key.public_pem == settled.public_pem for key in brought.values())

    def _use_hash(self, name: str) -> None:
        if len(self._chained) > 1:
            at = HASH_NAMES.index(name)
            self._chained = [self._chained[at]]
            for unit in self._units:
                unit.digests = (unit.digests[at],)
        elif name != self._hash_name:  # what other algorithms hashed can never be verified by this one
            self._explain(len(self._units))
            self._chained = [_Chained(name)]
        self._hash_name = name

    def _judge(self, signer: Key | None, time_us: int) -> Reason:
        """What is wrong with the signature of an SEI."""
        if signer is None:
            return Reason.NO_KEY if self._keyless else Reason.WRONG_SIGNATURE
        before = self._settled
        changed = before is not None and before != signer and before.public_pem != signer.public_pem
        if changed and self._trust.judge(signer, time_us) is not Provenance.TRUSTED:
            return Reason.OTHER_KEY
        self._settled = signer
        return Reason.NONE

    def _repeated(self, sei: Sei) -> bool:
        """Cameras may send an SEI more than once, against loss."""
        digest = hashlib.sha256(sei.document + (sei.signature or b"")).digest()
        if digest in self._recent:
            return True
        self._recent.append(digest)
        return False

    # -- parts --------------------------------------------------------------------------------------------------------

    def _place(self, sei: Sei, general: General, signer: Key | None, time_us: int) -> Draft | None:
        """Find the units of an SEI, and decide on them and on all before them; None while no units fit."""
        wrong = self._judge(signer, time_us) if sei.signature is not None else Reason.NONE
        if general.big_endian is not None:
            self._big_endian = general.big_endian
        counter = general.counters[self._big_endian]
        one = _Waiting(sei, general, counter, wrong, signer, time_us)
        follows = self._ahead(counter) == 1 + len(self._waiting)
        found = find(self._units, sei, general, self._hash_name, follows)
        if found is None:
            self._waiting.append(one)
            if len(self._waiting) > SEIS_HELD:
                self._explain(len(self._units))
            return None
        self._explain(found.start, unsigned=self._last is None and general.first_ever)
        draft = self._draft(self._units[: found.end - found.start], one)
        draft.missing, draft.altered, draft.added = found.missing, found.altered, found.added
        self._check_order(draft, one)
        self._hang(draft, found)
        self._remember(draft, one)
        if sei.signature is not None:
            self._settle(draft, wrong, one)
        return draft

    def _ahead(self, counter: int) -> int | None:
        """How far an SEI's number is ahead of the last part's; None when that is not known."""
        return None if self._last is None else (counter - self._last.counter + (1 << 31) & 0xFFFFFFFF) - (1 << 31)

    def _check_order(self, draft: Draft, one: _Waiting) -> None:
        """Whether the part follows the one before; what should lie between is told as missing."""
        ahead, last = self._ahead(one.counter), self._last
        draft.first = one.general.first_ever
        if ahead is None or last is None or (draft.first and self._torn):
            return
        if draft.first:  # a camera that starts anew in an unbroken stream: how much lies between nobody knows
            self._lack(draft)
            return
        broken = ahead == 1 and last.links and one.general.link not in last.links
        if broken or ahead < 0 or (ahead == 0 and draft.own_reason):
            draft.reason = Reason.ORDER
        elif ahead > 1:
            self._lack(draft)

    def _lack(self, draft: Draft) -> None:
        """Something was signed before this part, and neither pictures nor signature are there."""
        draft.below.append(Draft(draft.start_us, draft.start_us, 0, reason=Reason.PART_MISSING))
        self._drafts.insert(len(self._drafts) - 1, draft.below[0])

    def _hang(self, draft: Draft, found: Found) -> None:
        """Parts whose unsigned SEIs are among the units of this one share its fate; then these units are done."""
        matched = {i - found.start for i in found.matched}
        count = found.end - found.start
        for i, unit in enumerate(self._units[:count]):
            if unit.describes is not None and i in matched:
                draft.below.append(unit.describes)
            elif unit.describes is not None:
                unit.describes.settle(Reason.WRONG_SIGNATURE)

    def _remember(self, draft: Draft, one: _Waiting) -> None:
        """By what the next part will name this one; and these units are done."""
        units = self._units[: draft.units]
        self._pass(one, units)
        if self._last is not None and self._last.counter == one.counter and not one.sei.hashes and not draft.own_reason:
            self._last = _Last(one.counter, frozenset(_names(units)))
        self._drop(draft.units)
        self._torn = any(unit.ends for unit in units[-1:])
        self._lag_units = max(self._lag_units or 0, len(self._units))

    # -- what no SEI fits ---------------------------------------------------------------------------------------------

    def _explain(self, end: int, *, final: bool = False, unsigned: bool = False) -> None:
        """The units before `end` are as no SEI says: GOP by GOP, those that wait are taken for theirs.

        `final`: nothing comes any more; `unsigned`: the camera's first signature is of what comes behind them.
        """
        waiting, self._waiting = self._waiting, []
        if self._last is None and waiting and not waiting[0].general.first_ever:
            del waiting[0]  # it speaks of what came before the first unit
        borders = [0, *(start for start in gop_starts(self._units) if 0 < start < end), end] if end else []
        for place, count in enumerate(b - a for a, b in pairwise(borders)):
            groups_left = len(borders) - 1 - place
            if waiting and not self._is_later(waiting[0], count, groups_left > len(waiting)):
                self._spoilt(count, waiting)
            else:
                self._unsigned(count, final, unsigned)
        if self._last is not None:
            for one in waiting:
                self._absent(one)

    def _is_later(self, one: _Waiting, count: int, more_groups: bool) -> bool:
        """Whether an SEI speaks of what comes after the first `count` units: it names them as the part before."""
        if one.general.link in _names(self._units[:count]):
            return True
        return (more_groups or self._interrupted(count)) and (self._ahead(one.counter) or 1) > 1

    def _slack(self) -> int:
        """So many units after a part its SEI comes at the latest, by what was seen of this camera."""
        return 0 if self._lag_units is None else max(2 * self._lag_units, self._lag_units + 2)

    def _interrupted(self, count: int) -> bool:
        """Whether something is known to be missing where the SEI of the first `count` units may have been."""
        return any(unit.ends for unit in self._units[count - 1 : count + self._slack()])

    def _unsigned(self, count: int, final: bool = False, unsigned: bool = False) -> None:
        """A GOP for which no SEI came."""
        behind = len(self._units) - count
        late = final and (self._gops <= 2 if self._lag_units is None else behind <= self._slack())
        never = unsigned or not self.signed
        reason = Reason.UNSIGNED if never else Reason.DANGLING if late else Reason.NO_SIGNATURE
        if reason is Reason.NO_SIGNATURE and self._interrupted(count):
            reason = Reason.INTERRUPTED
        elif reason is Reason.NO_SIGNATURE and self._unreadable:
            self._unreadable -= 1
            reason = Reason.UNREADABLE
        self._draft(self._units[:count], None).settle(reason)
        self._forget(count, reason)
        if self._last is not None:
            self._last = _Last(self._last.counter + 1, frozenset())

    def _spoilt(self, count: int, waiting: list[_Waiting]) -> None:
        """A GOP of which no unit is what its SEIs say; a GOP signed in parts has several."""
        while count:
            one = waiting.pop(0)
            signed = one.units
            more = bool(waiting) and signed + waiting[0].units <= count
            taken = signed if more and signed else count
            draft = self._draft(self._units[:taken], one)
            draft.altered, draft.added = min(taken, signed), max(taken - signed, 0)
            draft.missing = max(signed - taken, 0)
            self._settle(draft, one.wrong or Reason.ALTERED, one)
            self._pass(one, self._units[:taken])
            self._forget(taken, Reason.NO_SIGNATURE)
            count -= taken
            if count and not waiting:
                self._unsigned(count)
                return

    def _absent(self, one: _Waiting) -> None:
        """A part that was signed, of which nothing is there."""
        draft = Draft(one.time_us, one.time_us, 0, missing=one.units, reason=Reason.PART_MISSING)
        draft.counter, draft.partial = one.counter, one.general.partial
        self._drafts.append(draft)
        self._settle(draft, one.wrong, one)
        if one.wrong in _NO_FORGERY:
            self._pass(one, [])

    def _pass(self, one: _Waiting, units: list[Unit]) -> None:
        """What comes next follows the part of this SEI, which `units` are taken for, and names it by its first unit.

        That is the first one or, with SEIs before the pictures, the first picture: the specification says both.
        """
        if one.wrong in _NO_FORGERY:
            lead = next((i for i, unit in enumerate(units) if not unit.is_sei), 0)
            self._last = _Last(one.counter, frozenset({*one.sei.hashes[:1], *one.sei.hashes[lead : lead + 1]}))
        elif self._last is not None:
            self._last = _Last(self._last.counter + 1, frozenset())

    # -- units and drafts ---------------------------------------------------------------------------------------------

    def _draft(self, units: list[Unit], by: _Waiting | None) -> Draft:
        draft = Draft(units[0].time_us, units[-1].time_us, len(units))
        if by is not None:
            draft.counter, draft.partial = by.counter, by.general.partial
            draft.camera_us = by.general.times_us[0] if by.general.times_us else None
        self._drafts.append(draft)
        return draft

    def _settle(self, draft: Draft, wrong: Reason, by: _Waiting) -> None:
        key = by.signer
        draft.settle(wrong, key, None if key is None else self._trust.judge(key, draft.start_us), by.time_us)

    def _forget(self, count: int, reason: Reason) -> None:
        """The first units are in no SEI's part; parts that SEIs among them describe share their fate."""
        for unit in self._units[:count]:
            if unit.describes is not None:
                unit.describes.settle(reason)
            self._torn |= unit.ends
        self._drop(count)

    def _drop(self, count: int) -> None:
        self._gops -= sum(unit.starts for unit in self._units[:count])
        del self._units[:count]

    def _told(self) -> list[Part]:
        """Parts whose verdicts are final, up to the first that is not."""
        parts: list[Part] = []
        while self._drafts and (self._drafts[0].verdict is not None or len(self._drafts) > PARTS_HELD):
            self._drafts[0].settle(Reason.NO_SIGNATURE)
            parts.append(self._drafts.popleft().final())
        return parts


def _names(units: list[Unit]) -> set[bytes]:
    """The hashes by which the part after these units may name them."""
    return {units[0].digests[0], next((unit.digests[0] for unit in units if not unit.is_sei), b"")}
