"""ONVIF Media Signing: what a camera's own signatures in its H.264 or H.265 say about its pictures.

from evidence.mediasigning import Trust, verify_stream
"""

from evidence.mediasigning.certificates import Provenance, Trust
from evidence.mediasigning.parts import Part, Verdict
from evidence.mediasigning.report import StreamReport, verify_stream
from evidence.mediasigning.verifier import Verifier

__all__ = ["Part", "Provenance", "StreamReport", "Trust", "Verdict", "Verifier", "verify_stream"]
