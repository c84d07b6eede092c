from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from base.errors import ConfigError
from index import Index
from playback.app import Server
from playback.context import Context
from playback.routes import CALLS
from tests.playback.conftest import Node, StartNode, fill_index, tell_status

TOKEN = "a-token-of-enough-length"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


async def test_health_says_what_is_missing(node: Node, index: Index) -> None:
    assert (await (await node.get("/healthz")).json()) == {"status": "ok", "version": "0.1.0", "problems": []}
    answer = await node.get("/readyz")
    assert answer.status == 503
    assert "recorder" in (await answer.json())["problems"][0]
    tell_status(node)
    async with asyncio.timeout(20):  # the last status is kept for a moment
        while (await node.get("/readyz")).status != 200:
            await asyncio.sleep(0.02)


async def test_metrics_tell_streams_and_calls(node: Node) -> None:
    tell_status(node, index_hung_s=4.5, index_backlog_records=70, index_behind_chunks=2)
    body = await (await node.get("/api/v1/streams")).json()
    told = {name: body["recorder"][f"index_{name}"] for name in ("hung_s", "backlog_records", "behind_chunks")}
    assert told == {"hung_s": 4.5, "backlog_records": 70, "behind_chunks": 2}
    text = await (await node.get("/metrics")).text()
    assert "keyreel_index_hung_seconds 4.5" in text
    assert "keyreel_index_behind_chunks 2.0" in text
    assert 'keyreel_stream_lost_packets_total{stream="gate.main"} 3.0' in text
    assert 'keyreel_http_requests_total{call="/api/v1/streams",status="200"} 1.0' in text
    assert "keyreel_recorder_up 1.0" in text
    assert 'keyreel_volume_written_bytes_total{volume="aa",worker="0"} 500.0' in text


async def test_a_silent_worker_is_told_and_hides_nothing_of_the_others(node: Node, index: Index) -> None:
    fill_index(index)
    tell_status(node, workers=2)
    answer = await node.get("/readyz")
    assert answer.status == 503
    assert "worker 1 does not report" in (await answer.json())["problems"][0]
    text = await (await node.get("/metrics")).text()
    assert "keyreel_recorder_up 0.0" in text
    assert 'keyreel_recorder_worker_up{worker="0"} 1.0' in text
    assert 'keyreel_recorder_worker_up{worker="1"} 0.0' in text
    assert 'keyreel_stream_recording{stream="gate.main"} 1.0' in text
    body = await (await node.get("/api/v1/streams")).json()
    assert (body["recorder"]["running"], body["recorder"]["silent"]) == (True, [1])
    states = {stream["id"]: (stream["state"], stream["reason"]) for stream in body["streams"]}
    assert states["gate.main"] == ("recording", "")
    assert states["hall.sub"] == ("unknown", "recorder-silent"), "the silent worker may have it"


async def test_requests_cannot_make_metric_series(node: Node) -> None:
    for path in ("/nobody", "/api/v1/streams/a.b", "/api/v1/streams/c.d"):
        await node.get(path)
    text = await (await node.get("/metrics")).text()
    assert "nobody" not in text
    assert "a.b" not in text


async def test_unknown_paths_and_methods_are_problems(node: Node) -> None:
    assert "/openapi.json" in (await node.problem("GET", "/api/v2/streams", 404))["detail"]
    assert (await node.problem("DELETE", "/api/v1/streams", 405))["reason"] == "method"
    assert (await node.problem("GET", "/api/v1/streams?verbose=1", 400))["reason"] == "bad-query"


async def test_every_call_is_described_and_every_reference_resolves(node: Node) -> None:
    document: dict[str, Any] = await (await node.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    for call in CALLS:
        operation = document["paths"][call.path][call.method.lower()]
        named = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "path"}
        assert named == {part.strip("{}") for part in call.path.split("/") if part.startswith("{")}
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(ids)) == len(ids)
    schemas = document["components"]["schemas"]
    for line in json.dumps(document, indent=0).splitlines():
        if '"$ref"' in line:
            assert line.split("/")[-1].strip('", ') in schemas


async def test_answers_hold_what_openapi_says(node: Node, index: Index) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    fill_index(index)
    tell_status(node)
    document = await (await node.get("/openapi.json")).json()
    for path in ("/api/v1/streams", "/api/v1/cameras", "/healthz", "/nowhere"):
        answer = await node.get(path)
        body = await answer.json(content_type=None)
        if path == "/nowhere":
            schema = {"$ref": "#/components/schemas/ProblemBody"}
        else:
            content = document["paths"][path]["get"]["responses"][str(answer.status)]["content"]
            schema = content["application/json"]["schema"]
        jsonschema.validate(body, {**schema, "components": document["components"]})


async def test_with_a_token_nothing_is_told_without_it(start_node: StartNode) -> None:
    node = await start_node(token=TOKEN)
    for call in CALLS:
        path = call.path.replace("{id}", "x.main").replace("{name}", "x").replace("{segment}", "x")
        if call.path.startswith("/api/") and call.path != "/api/v1/session":
            body = await node.problem(call.method, path, 401)
            assert "Bearer" in body["detail"]
    await node.problem("GET", "/metrics", 401)
    await node.problem("GET", "/api/v1/streams", 401, headers={"Authorization": f"Bearer {TOKEN}x"})
    for path in ("/healthz", "/openapi.json", "/"):
        assert (await node.get(path)).status == 200
    assert (await node.get("/api/v1/streams", headers=BEARER)).status == 200


async def test_a_session_stands_for_the_token(start_node: StartNode) -> None:
    node = await start_node(token=TOKEN)
    node.http.cookie_jar.clear()
    jar = aiohttp.CookieJar(unsafe=True)  # the address is an IP
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        url = node.url("/api/v1/session")
        assert (await browser.post(url, json={"token": "wrong"})).status == 401
        answer = await browser.post(url, json={"token": TOKEN})
        assert answer.status == 200
        cookie = answer.headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert TOKEN not in cookie
        assert (await browser.get(node.url("/api/v1/streams"))).status == 200
        assert (await browser.delete(url)).status == 204
        assert (await browser.get(node.url("/api/v1/streams"))).status == 401


async def test_without_a_token_other_host_names_are_refused(node: Node) -> None:
    assert (await node.problem("GET", "/api/v1/streams", 421, headers={"Host": "evil.example"}))["reason"] == "host"
    assert (await node.get("/api/v1/streams", headers={"Host": "localhost:8787"})).status == 200


async def test_pages_of_other_sites_may_not_change_anything(node: Node) -> None:
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        body = await node.problem("DELETE", "/api/v1/cameras/gate", 403, headers=headers)
        assert body["reason"] == "cross-site"
    own = {"Origin": node.server.url.rstrip("/")}
    assert (await node.problem("DELETE", "/api/v1/cameras/gate", 404, headers=own))["reason"] == "unknown-camera"


async def test_requests_are_bounded_and_health_still_answers(start_node: StartNode) -> None:
    node = await start_node(requests_max=1)
    with node.context.requests.hold():
        body = await node.problem("GET", "/api/v1/streams", 503)
        assert body["reason"] == "busy"
        assert (await node.get("/healthz")).status == 200
    assert (await node.get("/api/v1/streams")).status == 200


async def test_an_open_address_needs_a_token(node: Node) -> None:
    context = node.context
    for listen in ("0.0.0.0:0", "[::]:0"):
        api = type(context.api)(listen=listen)
        other = Context(context.index, context.store, context.run_path, api, "0")
        with pytest.raises(ConfigError, match="token"):
            await Server(other).start()


async def test_a_taken_address_is_refused_in_words(start_node: StartNode) -> None:
    node = await start_node()
    with pytest.raises(ConfigError, match="cannot listen on"):
        await start_node(listen=f"127.0.0.1:{node.server.address[1]}")


async def test_the_page_loads_nothing_from_elsewhere(node: Node) -> None:
    answer = await node.get("/")
    text = await answer.text()
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert "http://" not in text
    assert "https://" not in text
    for name in ("app.js", "style.css", "mark.svg"):
        asset = await node.get(f"/web/{name}")
        assert asset.status == 200
        again = await node.get(f"/web/{name}", headers={"If-None-Match": asset.headers["ETag"]})
        assert again.status == 304
    await node.problem("GET", "/web/..%2Fmain.py", 404)


async def test_head_is_get_without_the_body(node: Node) -> None:
    for path in ("/", "/healthz", "/api/v1/streams"):
        full = await node.get(path)
        head = await node.http.head(node.url(path))
        assert head.status == 200
        assert await head.read() == b""
        if path == "/":
            assert head.headers["Content-Length"] == full.headers["Content-Length"]
