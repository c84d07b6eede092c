"""The report says what the manifest says, in both languages, and loads nothing."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import av
import pytest
from exports import export
from support import T0, Recording, number_of, video

from base.units import US
from chunks.records import GapCause
from export.report import bound
from export.words import CAUSES


class Page(HTMLParser):
    """Tags and texts of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


@pytest.mark.parametrize(("errors_us", "said"), [([1000, 2500], "≤ 2.5 ms"), ([1000, 0], "no bound is known")])
def test_an_error_bound_that_a_node_did_not_know_is_none(errors_us: list[int], said: str) -> None:
    assert said in bound(errors_us)


def test_every_cause_has_words() -> None:
    assert set(CAUSES) == {cause.name.lower() for cause in GapCause} | {"after_watermark"}


def test_the_page_shows_gaps_and_pictures_and_nothing_typed_becomes_markup(recording: Recording) -> None:
    recording.add(video())
    recording.add(video(first=100), start_us=T0 + 6 * US, gap_cause=GapCause.OFFLINE)
    reason = '<script>alert("x")</script>'
    target = export(recording, recording.root / "out", 0, 10, reason=reason)
    text = (target / "report.html").read_text()
    page = Page(text)
    assert "script" not in {tag for tag, _ in page.tags}
    assert any(reason in one for one in page.texts)
    assert "mất kết nối camera" in text
    assert "camera offline" in text
    assert "≤ 1.0 ms" in text
    bars = [attributes for tag, attributes in page.tags if tag == "rect"]
    assert [(float(one["x"] or 0), float(one["width"] or 0)) for one in bars] == [(0, 1000), (400, 200)]
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(sources) >= 3
    assert all(one.startswith("data:image/jpeg;base64,") for one in sources)
    assert not re.search(r'(?:src|href)="(?!data:)', text)
    numbers = []
    for one in sources:
        with av.open(io.BytesIO(base64.b64decode(one.split(",")[1]))) as container:
            numbers.append(number_of(next(container.decode(video=0)).to_ndarray(format="gray")))
    assert numbers == sorted(numbers)
    assert numbers[0] == 0
    assert numbers[-1] >= 100


PLAY = """async () => {
  const video = document.getElementById("video");
  await new Promise((done, failed) => {
    video.onloadeddata = done; video.onerror = () => failed(new Error(video.error.message)); video.load(); });
  video.currentTime = 2.5;
  await new Promise((done) => { video.onseeked = done; });
  const canvas = document.getElementById("canvas");
  canvas.getContext("2d").drawImage(video, 0, 0);
  const row = canvas.getContext("2d").getImageData(0, 96, 320, 1).data;
  return Array.from({length: 10}, (_, bar) => row[(bar * 32 + 16) * 4] > 128 ? 1 << bar : 0).reduce((a, b) => a + b);
}"""


@pytest.mark.needs_chromium
def test_a_browser_shows_the_page_and_plays_the_video(recording: Recording) -> None:
    from playwright.sync_api import sync_playwright

    recording.add(video())
    target = export(recording, recording.root / "out", 0.5, 4)
    (target / "play.html").write_text(
        '<video id="video" src="streams/cam.main.mp4"></video><canvas id="canvas" width="320" height="192"></canvas>'
    )
    with sync_playwright() as tools:
        arguments = ["--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
        browser = tools.chromium.launch(executable_path="/usr/bin/chromium", args=arguments)
        page = browser.new_page()
        asked: list[str] = []
        page.on("request", lambda one: asked.append(one.url))
        page.goto(f"file://{target}/report.html")
        assert page.locator("h1").inner_text().startswith("Biên bản")
        assert page.evaluate("[...document.images].every(one => one.naturalWidth > 0)")
        assert [one for one in asked if not one.startswith(("file:", "data:"))] == []
        page.goto(f"file://{target}/play.html")
        assert page.evaluate(PLAY) == 13 + 62, "picture 13 is the first after 0.5 s, 62 pictures are 2.5 s"
        browser.close()
