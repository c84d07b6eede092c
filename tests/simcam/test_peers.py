"""What independent clients make of the cameras: ffmpeg's RTSP client and decoder, and TLS as OpenSSL speaks it."""

from __future__ import annotations

import asyncio
import datetime
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from simcam import CameraSpec, LoopSpec, SimcamServer
from simcam.encode import make_loop
from simcam.files import load_loop
from simcam.spec import AuthScheme
from simcam.stamps import verify
from tests.simcam.viewer import Viewer

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"
needs_ffmpeg = [
    pytest.mark.needs_ffmpeg,
    pytest.mark.skipif(not shutil.which("ffmpeg") or not shutil.which("ffprobe"), reason="ffmpeg is not installed"),
]
needs_corpus = [pytest.mark.needs_corpus, pytest.mark.skipif(not CORPUS.is_dir(), reason="../shared/corpus is absent")]
SMALL: dict[str, Any] = {"width": 320, "height": 180, "gop": 15, "seconds": 2}
LOOPS = {
    "h264-baseline-pcmu": LoopSpec(**SMALL, profile="baseline", audio="pcmu"),
    "h264-b-frames-aac": LoopSpec(**SMALL, profile="high", b_frames=2, audio="aac"),
    "h264-slices-opus": LoopSpec(**SMALL, slices=3, audio="opus"),
    "h265-pcma": LoopSpec(**SMALL, codec="h265", audio="pcma"),
    "h265-b-frames-l16": LoopSpec(**SMALL, codec="h265", b_frames=2, audio="l16"),
}


async def run(*command: str) -> list[str]:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    async with asyncio.timeout(60):
        out, error = await process.communicate()
    assert process.returncode == 0, error.decode()
    return out.decode().splitlines()


async def packet_counts(url: str, transport: str) -> dict[str, int]:
    command = ["ffprobe", "-v", "error", "-rtsp_transport", transport, "-count_packets"]
    lines = await run(*command, "-show_entries", "stream=codec_type,nb_read_packets", "-of", "csv=p=0", url)
    return {kind: int(count) for kind, count in (line.split(",")[:2] for line in lines)}


async def picture_hashes(*source: str) -> list[str]:
    """MD5 of every decoded picture, in display order."""
    command = ["ffmpeg", "-v", "fatal", *source, "-map", "0:v", "-fps_mode", "passthrough", "-f", "framemd5", "-"]
    return [line.rpartition(",")[2].strip() for line in await run(*command) if not line.startswith("#")]


@pytest.mark.parametrize("transport", ["tcp", "udp"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_ffmpeg) for name in LOOPS])
async def test_ffprobe_counts_what_was_sent(name: str, transport: str) -> None:
    loop = make_loop(LOOPS[name])
    async with SimcamServer([CameraSpec("gate", loop, repeat=2, rate=8.0)]) as server:
        counts = await packet_counts(server.url("gate"), transport)
    assert counts["video"] == 2 * len(loop.video.table)
    assert loop.audio is not None
    # Over UDP a BYE makes ffmpeg forget what still lies in its reordering queue.
    forgotten = 2 * len(loop.audio.table) - counts["audio"]
    assert 0 <= forgotten <= (0 if transport == "tcp" else 4)


@pytest.mark.parametrize("scheme", [pytest.param(scheme, marks=needs_ffmpeg) for scheme in ("basic", "digest-md5")])
async def test_ffmpeg_passes_the_password(scheme: AuthScheme) -> None:
    spec = CameraSpec("gate", make_loop(LoopSpec(**SMALL)), user="u", password="p", auth=scheme, repeat=1, rate=4.0)
    async with SimcamServer([spec]) as server:
        assert (await packet_counts(server.url("gate"), "tcp"))["video"] == 30


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=path.name, marks=[*needs_corpus, *needs_ffmpeg])
        for path in [*sorted(CORPUS.glob("h264/*")), *sorted(CORPUS.glob("signed/*.mp4"))] or [CORPUS / "absent"]
    ],
)
async def test_corpus_streams_arrive_byte_for_byte_and_decode_alike(path: Path) -> None:
    loop = await asyncio.to_thread(load_loop, path)
    rate = loop.video.duration_ticks / 90_000 / 0.3  # all of it in 0.3 s
    async with SimcamServer([CameraSpec("gate", path, repeat=1, rate=rate)]) as server:
        async with await Viewer.connect(server.url("gate")) as viewer:
            await viewer.play()
            await viewer.until_end()
        hashes_sent = await picture_hashes("-rtsp_transport", "tcp", "-i", server.url("gate"))
    samples = viewer.samples(loop.video.codec)
    whole = ["-ignore_editlist", "1"] if path.suffix == ".mp4" else []
    assert samples == [loop.video.table.sample(n) for n in range(len(loop.video.table))]
    assert hashes_sent == await picture_hashes(*whole, "-i", str(path))


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    cert_path, key_path = tmp_path / "cert.pem", tmp_path / "key.pem"
    cert_path.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key_path.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return cert_path, key_path


async def test_tls_brings_the_same(certificate: tuple[Path, Path]) -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*certificate)
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    spec = CameraSpec("gate", LoopSpec(**SMALL), repeat=1, rate=10.0)
    async with SimcamServer([spec], tls=tls) as server:
        assert server.url("gate").startswith("rtsps://")
        async with await Viewer.connect(server.url("gate"), trusting) as viewer:
            await viewer.play()
            await viewer.until_end()
        assert verify(viewer.samples(), "h264").ok
        assert viewer.samples() == [picture.sample for picture in server.camera("gate").sent()]
