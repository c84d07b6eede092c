"""What a camera signs, as an answer tells it, and how answers write times."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

MomentText = Annotated[
    str,
    Meta(
        description="RFC 3339 time with an offset",
        examples=["2026-03-01T08:30:00+07:00"],
        extra_json_schema={"format": "date-time"},
    ),
]


class SignatureView(msgspec.Struct, kw_only=True):
    """The last look at what the camera itself signs (ONVIF Media Signing)."""

    verdict: Annotated[
        str, Meta(description="authentic, authentic-with-missing-units, not-authentic, not-signed or not-covered")
    ]
    reason: str = ""
    detail: str = ""
    provenance: Annotated[
        str, Meta(description="trusted, untrusted, not-valid-then or no-anchors, by `evidence.camera_trust`")
    ] = ""
    subject: Annotated[str, Meta(description="of the camera's certificate")] = ""
    key: Annotated[str, Meta(description="SHA-256 of the camera's certificate")] = ""
    start: Annotated[MomentText | None, Meta(description="of the pictures that were judged")] = None
    end: MomentText | None = None
    signed: Annotated[MomentText | None, Meta(description="newest pictures that were seen to be signed")] = None
    stopped: Annotated[
        MomentText | None,
        Meta(description="first pictures seen unsigned of a camera that signed before, while it lasts"),
    ] = None
