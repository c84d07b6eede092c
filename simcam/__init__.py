"""Simulated cameras over real RTSP, for the demo, the tests and the benches."""

from simcam.encode import LoopSpec
from simcam.faults import Faults
from simcam.server import SimcamServer
from simcam.spec import CameraSpec

__all__ = ["CameraSpec", "Faults", "LoopSpec", "SimcamServer"]
