"""Builds the kernels with sanitizers and runs every target: `python -m tests.fuzz.run --seconds 60 [TARGET…]`.

Kept true: the ordinary build is not touched; each run starts from the saved corpus and the seeds, finds go to
build/fuzz/found/, and the exit status is 1 when there is one. `--minimise` writes the corpus back, small.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha1
from pathlib import Path

from tests.fuzz.seeds import seeds
from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build" / "fuzz"
CORPUS = Path(__file__).parent / "corpus"
INPUT_BYTES_MAX = 4096
WORKER = (sys.executable, "-P", "-m", "tests.fuzz.worker")  # -P: else this folder's own kernels come first
SAVED_BYTES_MAX = 120 << 10  # of one target
# Not alignment: on the machines we run on an unaligned load is one; ours go through memcpy or bytes anyway.
SANITIZE = "-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined"
FLAGS = f"-g -O1 -fno-omit-frame-pointer {SANITIZE}"


@dataclass(frozen=True)
class Outcome:
    """What one target's run told."""

    target: str
    executions: int
    edges: int
    peak_mb: int
    found: list[Path]
    log: Path
    status: int


def compiler() -> str:
    """clang, whose coverage libFuzzer reads."""
    names = [os.environ.get("CLANG", ""), "clang", *(f"clang-{n}" for n in range(21, 13, -1))]
    for name in names:
        if name and (path := shutil.which(name)):
            return path
    sys.exit("fuzzing needs clang (on Debian: apt-get install clang), or CLANG=/path/to/clang")


def build() -> Path:
    """The native package with coverage, ASan and UBSan, in a folder of its own; the folder."""
    clang = compiler()
    place = BUILD / "modules"
    environment = {**os.environ, "CC": clang, "LDSHARED": f"{clang} -shared", "CFLAGS": FLAGS}
    arguments = ["build_ext", "--build-lib", str(place), "--build-temp", str(BUILD / "temp")]
    subprocess.run([sys.executable, "setup.py", "-q", *arguments], cwd=ROOT, env=environment, check=True)
    shutil.copy(ROOT / "native" / "__init__.py", place / "native")
    return place


def sanitized_environment(place: Path) -> dict[str, str]:
    import atheris

    return {
        **os.environ,
        "PYTHONPATH": f"{place}{os.pathsep}{ROOT}",
        "PYTHONMALLOC": "malloc",  # else ASan sees arenas, not objects
        "LD_PRELOAD": str(Path(atheris.path()) / "asan_with_fuzzer.so"),
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=32:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


def work_folder(target: str) -> Path:
    """Where a target's inputs grow, with the seeds in it."""
    folder = BUILD / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    for data in seeds(target):
        (folder / sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
    return folder


def fuzz(target: str, seconds: float, place: Path, extra: list[str]) -> Outcome:
    folder, saved, found = work_folder(target), CORPUS / target, BUILD / "found"
    found.mkdir(parents=True, exist_ok=True)
    log = BUILD / f"{target}.log"
    options = [
        f"-max_total_time={int(seconds)}", f"-max_len={INPUT_BYTES_MAX}", "-timeout=10", "-rss_limit_mb=1024",
        "-print_final_stats=1", "-use_value_profile=1", f"-artifact_prefix={found}/{target}-", *extra, str(folder),
    ]  # fmt: skip
    if saved.is_dir():
        options.append(str(saved))
    before = set(found.glob(f"{target}-*"))
    with log.open("wb") as out:
        command = [*WORKER, target, *options]
        status = subprocess.run(command, cwd=ROOT, env=sanitized_environment(place), stdout=out, stderr=out).returncode
    text = log.read_text(errors="replace")
    return Outcome(
        target, _last(r"number_of_executed_units: +(\d+)", text), _last(r"cov: +(\d+)", text),
        _last(r"peak_rss_mb: +(\d+)", text), sorted(set(found.glob(f"{target}-*")) - before), log, status,
    )  # fmt: skip


def _last(pattern: str, text: str) -> int:
    told = re.findall(pattern, text)
    return int(told[-1]) if told else 0


def minimise(target: str, place: Path) -> None:
    """Keep the inputs that reach something no smaller one reaches, smallest first, up to SAVED_BYTES_MAX."""
    merged = BUILD / "merged" / target
    shutil.rmtree(merged, ignore_errors=True)
    merged.mkdir(parents=True)
    saved = CORPUS / target
    sources = [str(folder) for folder in (saved, work_folder(target)) if folder.is_dir()]
    command = [*WORKER, target, "-set_cover_merge=1", f"-max_len={INPUT_BYTES_MAX}"]
    with (BUILD / f"{target}.merge.log").open("wb") as out:
        environment = sanitized_environment(place)
        subprocess.run([*command, str(merged), *sources], cwd=ROOT, env=environment, stdout=out, stderr=out, check=True)
    shutil.rmtree(saved, ignore_errors=True)
    saved.mkdir(parents=True)
    total = 0
    for path in sorted(merged.iterdir(), key=lambda path: (path.stat().st_size, path.name)):
        total += path.stat().st_size
        if total > SAVED_BYTES_MAX:
            break
        shutil.copy(path, saved / path.name[:16])


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("targets", nargs="*", default=[*TARGETS], metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=float, default=60, help="of each target (60)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="targets at a time (the cores)")
    parser.add_argument("--seed", type=int, default=0, help="of the mutations; 0 draws one")
    parser.add_argument("--minimise", action="store_true", help="write what was found new back to tests/fuzz/corpus")
    chosen = parser.parse_args()
    if unknown := {*chosen.targets} - {*TARGETS}:
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    place = build()
    began = time.monotonic()
    with ThreadPoolExecutor(chosen.jobs) as pool:
        extra = [f"-seed={chosen.seed}"] if chosen.seed else []
        outcomes = list(pool.map(lambda target: fuzz(target, chosen.seconds, place, extra), chosen.targets))
        if chosen.minimise:
            list(pool.map(lambda target: minimise(target, place), chosen.targets))
    return report(outcomes, time.monotonic() - began)


def report(outcomes: list[Outcome], took_s: float) -> int:
    print(f"{'target':12} {'executions':>12} {'edges':>7} {'peak MB':>8}")
    for outcome in outcomes:
        print(f"{outcome.target:12} {outcome.executions:12,} {outcome.edges:7,} {outcome.peak_mb:8,}")
    print(f"{sum(outcome.executions for outcome in outcomes):,} executions in {took_s:.0f} s")
    failed = [outcome for outcome in outcomes if outcome.status or outcome.found]
    for outcome in failed:
        kept = ", ".join(map(str, outcome.found)) or "no input was kept"
        print(f"\n{outcome.target} failed: {kept}; {outcome.log} ends:")
        print("\n".join(outcome.log.read_text(errors="replace").splitlines()[-40:]))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
