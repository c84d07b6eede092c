"""One tree of errors, split by who has to act.

    KeyreelError
    ├── UserError        the caller asked for something impossible; change the request
    │   └── NotFound     the thing named does not exist
    ├── ConfigError      the operator's configuration or data folder is wrong; nothing was touched
    │   └── FormatError  a file or folder has a format this version does not know
    ├── CameraError      a camera misbehaved; the session backs off and tries again
    ├── DamageError      stored bytes are not what was written; the range becomes a declared gap
    │   └── IndexDamage  the index is, or contradicts a chunk; the recorder makes it again
    └── VolumeError      a volume failed; its streams go on elsewhere

Every message says where, what, and what to do next. Raise early, log once, at the outer loop.
"""

from __future__ import annotations


class KeyreelError(Exception):
    """Root of all errors raised on purpose.

    `reason` is a short stable word for status, metrics and problem+json; `str(error)` is for people.
    """

    reason = "error"

    def __init__(self, message: str, *, reason: str | None = None) -> None:
        super().__init__(message)
        if reason is not None:
            self.reason = reason


class UserError(KeyreelError):
    """The request cannot be met as it stands; the message says what to change."""

    reason = "bad-request"


class NotFound(UserError):
    """The stream, camera, chunk or range named does not exist."""

    reason = "not-found"


class ConfigError(KeyreelError):
    """The node's configuration or data folder is wrong; nothing was changed."""

    reason = "config"


class FormatError(ConfigError):
    """A file or folder has a newer or unknown format version."""

    reason = "format"


class CameraError(KeyreelError):
    """A camera or its network misbehaved; `reason` becomes the stream's published reason."""

    reason = "camera"


class DamageError(KeyreelError):
    """Stored bytes failed their checksum or identity; never served."""

    reason = "damage"


class IndexDamage(DamageError):
    """The index is not what was written, or contradicts a chunk that passed its checks."""

    reason = "index"


class VolumeError(KeyreelError):
    """A volume failed; `reason` is one of eio, enospc, missing, readonly, hung."""

    reason = "volume"
