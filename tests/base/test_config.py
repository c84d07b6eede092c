"""Configuration: defaults hold, bounds are enforced, mistakes are found with their line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from base.config import ApiConfig, Config, RecorderConfig, load, parse_listen
from base.errors import ConfigError


def _load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "keyreel.toml"
    path.write_text(text)
    return load(path)


def test_without_a_file_the_defaults_hold() -> None:
    assert load(None) == Config()


def test_values_are_read_and_paths_taken_from_the_file(tmp_path: Path) -> None:
    config = _load(
        tmp_path, '[recorder]\nchunk_s = 60\n[[volumes]]\npath = "disk1"\n[[volumes]]\npath = "/mnt/disk2"\n'
    )
    assert config.recorder.chunk_s == 60
    assert [volume.path for volume in config.volumes] == [str(tmp_path / "disk1"), "/mnt/disk2"]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("[recorder]\n\nfragment_s = 1\n", 3, "unknown field `fragment_s`"),
        ("[recorder]\nfragment_ms = 1001\n", 2, "<= 1000"),
        ("[recorder]\nchunk_s = 9\n", 2, ">= 10"),
        ("[recorder]\nchunk_s = '9'\n", 2, "Expected `int`"),
        ("# head\n[recordr]\n", 2, "unknown field `recordr`"),
        ("[log]\nform = 'xml'\n", 2, "Invalid enum value"),
        ('[[volumes]]\npath = "a"\n\n[[volumes]]\npth = "b"\n', 5, "volumes[1]"),
        ('[[volumes]]\npath = "a"\n[[volumes]]\npath = 7\n', 4, "Expected `str`"),
        ("api = {listen = 7}\n", 1, "Expected `str`"),
        ('[api]\ntoken = "short"\n', 2, "length >= 16"),
    ],
)
def test_mistakes_name_their_line(tmp_path: Path, text: str, line: int, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert f"line {line}:" in str(caught.value)
    assert words in str(caught.value)


def test_a_file_that_is_not_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"not valid TOML.*line 2"):
        _load(tmp_path, "[recorder]\nchunk_s =\n")
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "absent.toml")


def test_an_open_address_needs_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token"):
        load(None, listen="0.0.0.0:8787")
    with pytest.raises(ConfigError, match="token"):
        load(None, listen="camera-node.example:8787")
    (tmp_path / "token").write_text("0123456789abcdef\n")
    config = _load(tmp_path, '[api]\nlisten = "[::]:8787"\ntoken_file = "token"\n')
    assert config.api.token == "0123456789abcdef"
    assert not config.api.loopback
    for address in ("127.0.0.1:1", "localhost:1", "[::1]:1"):
        assert load(None, listen=address).api.loopback


def test_tokens_are_checked(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(ConfigError, match="16 characters"):
        _load(tmp_path, '[api]\ntoken_file = "token"\n')
    with pytest.raises(ConfigError, match="cannot be read"):
        _load(tmp_path, '[api]\ntoken_file = "absent"\n')
    with pytest.raises(ConfigError, match="both set"):
        _load(tmp_path, '[api]\ntoken_file = "token"\ntoken = "0123456789abcdef"\n')


@pytest.mark.parametrize("text", ["", "8787", "127.0.0.1", "127.0.0.1:", "a b:1", "127.0.0.1:65536", "::1:80", "[x]:1"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="HOST:PORT"):
        parse_listen(text)


def test_addresses() -> None:
    assert parse_listen("127.0.0.1:8787") == ("127.0.0.1", 8787)
    assert parse_listen("[::1]:0") == ("::1", 0)
    assert ApiConfig(listen="node:80").address == ("node", 80)


def test_rules_over_several_values(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="backoff_min_s"):
        _load(tmp_path, "[recorder]\nbackoff_min_s = 30\nbackoff_max_s = 5\n")
    with pytest.raises(ConfigError, match="queue_bytes_max"):
        _load(tmp_path, "[recorder]\nunit_bytes_max = 67108864\nqueue_bytes_max = 67108864\n")
    with pytest.raises(ConfigError, match="each of recorder"):
        _load(tmp_path, "[recorder]\nqueue_bytes_max = 67108864\nworkers = 5\n")
    assert _load(tmp_path, "[recorder]\nworkers = 16\n").recorder.workers == 16
    with pytest.raises(ConfigError, match="same path"):
        _load(tmp_path, '[[volumes]]\npath = "a"\n[[volumes]]\npath = "./a"\n')


def test_every_limit_is_described_and_bounded() -> None:
    for section in (RecorderConfig, ApiConfig):
        for field in msgspec.json.schema(section)["$defs"][section.__name__]["properties"].items():
            name, shape = field
            if shape.get("type") in ("integer", "number"):
                assert {"minimum", "maximum", "description", "default"} <= shape.keys(), name
