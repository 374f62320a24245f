"""Compiled kernels on disk survive races, kills and changes, and never serve the wrong code."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from sparse_core.kernels import jit

NOT_WRITABLE = (
    "import os\nreal = os.access\n"
    "os.access = lambda path, mode: not mode & os.W_OK and real(path, mode)\n"
)
HEAD = "import sys, numpy as np\nfrom sparse_core.kernels import checked, jit\n"
PACK = (
    "x = np.arange({n} * 3, dtype=np.float32).reshape({n}, 3)\n"
    "assert (checked.unpack(checked.pack(x, tile={tile}), {n}) == x).all()\n"
)
COMPILED = "print(jit.compilations)\n"


def start(script: str, cache: Path) -> subprocess.Popen[str]:
    """Start a process with a cache directory of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + script],
        env={**os.environ, jit.CACHE_VARIABLE: str(cache)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    """Return what a process printed; it must have succeeded."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def entries(cache: Path) -> list[Path]:
    """Return the files of a cache."""
    return sorted(path for path in cache.rglob("*") if path.is_file())


def test_an_entry_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "entry.bin"
    assert jit.read_entry(path) is None
    jit.write_entry(path, b"machine code")
    assert jit.read_entry(path) == b"machine code"
    whole = path.read_bytes()
    for torn in (b"", whole[:7], whole[:-1], whole + b"x", whole[:-1] + b"X", b"foreign" * 20):
        path.write_bytes(torn)
        assert jit.read_entry(path) is None
    assert [file.name for file in tmp_path.iterdir()] == ["entry.bin"]


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    jit.write_entry(file / "below" / "entry.bin", b"body")
    assert file.read_text() == ""


def test_what_killed_processes_left_is_swept(tmp_path: Path) -> None:
    old, new = tmp_path / "old.tmp", tmp_path / "new.tmp"
    old.write_text("")
    new.write_text("")
    os.utime(old, (time.time() - 1e6,) * 2)
    jit._sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new.tmp"]


def test_where_the_cache_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(jit.CACHE_VARIABLE, str(tmp_path / "a"))
    assert jit.cache_dir() == tmp_path / "a"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv(jit.CACHE_VARIABLE, "")
    assert jit.cache_dir() is None
    monkeypatch.delenv(jit.CACHE_VARIABLE)
    monkeypatch.setattr(jit.config, "CACHE_DIR", str(tmp_path / "b"))
    assert jit.cache_dir() == tmp_path / "b" / "sparse_core"
    monkeypatch.setattr(jit.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "c"))
    assert jit.cache_dir() == tmp_path / "c" / "sparse_core"
    (tmp_path / "d").write_text("a file")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "d"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "e"))
    found = jit.cache_dir()
    assert found is not None and found.is_relative_to(tmp_path / "e")


def test_where_the_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that was asked for, whoever owns it; of the others, the user's own."""
    monkeypatch.delenv(jit.CACHE_VARIABLE, raising=False)
    monkeypatch.setattr(jit.config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path / "temporary"))
    home, temporary = jit.cache_dirs()
    assert home == tmp_path / "home" / "sparse_core"
    assert temporary.is_relative_to(tmp_path / "temporary") and not home.parent.exists()
    monkeypatch.setattr("os.access", lambda path, mode: path != home)
    assert jit.cache_dir() == temporary and jit.cache_dirs() == [home, temporary]
    monkeypatch.setattr("os.access", lambda path, mode: False)
    assert jit.cache_dir() is None and jit.cache_dirs() == [home, temporary]
    monkeypatch.setattr("os.getuid", lambda: 12345)
    assert jit.cache_dirs()[0].is_relative_to(tmp_path / "temporary")
    monkeypatch.setenv(jit.CACHE_VARIABLE, str(home))
    assert jit.cache_dirs() == [home]


def test_one_line_says_that_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "kernels"
    monkeypatch.setenv(jit.CACHE_VARIABLE, str(folder))
    said = jit.unkept()
    assert f"({folder})" in said and said.endswith(
        f"set {jit.CACHE_VARIABLE} to a folder that can be"
    )
    with pytest.warns(UserWarning, match="each process compiles"):
        jit._warn_once(said)
    jit._warn_once(said)
    monkeypatch.setenv(jit.CACHE_VARIABLE, "")
    assert jit.unkept() == ""
    monkeypatch.setenv(jit.CACHE_VARIABLE, str(tmp_path / "new"))
    assert jit.unkept() == ""


def test_only_what_stays_the_same_may_be_a_constant() -> None:
    width, array = 3, np.zeros(3)

    def good() -> int:
        return width

    def bad() -> float:
        return float(array[0])

    one, two = jit._named(good).__qualname__, jit._named(good, "float32").__qualname__
    assert one != two
    with pytest.raises(TypeError, match="a kernel may use numbers, strings and inlined functions"):
        jit._named(bad)


def test_processes_share_what_they_compile(tmp_path: Path) -> None:
    script = "x = np.arange(-9, 9, dtype=np.float32)\n"
    script += "assert (checked.activate('relu', x) == np.maximum(x, 0)).all()\n" + COMPILED
    racers = [start(script, tmp_path) for _ in range(3)]
    assert {finish(racer).strip() for racer in racers} <= {"0", "1"}
    files = entries(tmp_path)
    assert len(files) == 1 and files[0].suffix == ".bin"
    assert finish(start(script, tmp_path)).split() == ["0"]
    # Torn by a crash: compiled again, and put right.
    files[0].write_bytes(files[0].read_bytes()[:1000])
    assert finish(start(script, tmp_path)).split() == ["1"]
    assert finish(start(script, tmp_path)).split() == ["0"]


def test_a_cache_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    first, second = PACK.format(n=8, tile=8), PACK.format(n=16, tile=16)
    finish(start(first, tmp_path))
    kept = entries(tmp_path)
    assert len(kept) == 2
    # Whoever runs the tests may write everywhere: the process is told that it may not.
    assert finish(start(NOT_WRITABLE + first + COMPILED, tmp_path)).split() == ["0"]
    assert finish(start(NOT_WRITABLE + second + COMPILED, tmp_path)).split() == ["2"]
    assert entries(tmp_path) == kept


def test_kernels_of_different_processes_do_not_mix(tmp_path: Path) -> None:
    # Both processes number their functions alike; a third one loads the kernels of both.
    first = start(PACK.format(n=8, tile=8), tmp_path)
    second = start(PACK.format(n=16, tile=16), tmp_path)
    finish(first), finish(second)
    both = PACK.format(n=16, tile=16) + PACK.format(n=8, tile=8) + PACK.format(n=30, tile=16)
    assert finish(start(both + COMPILED, tmp_path)).split() == ["0"]


@pytest.mark.slow
def test_a_killed_process_leaves_a_cache_that_works(tmp_path: Path) -> None:
    script = "from sparse_core.kernels import warmup\nwarmup((4,), (8,))\n"
    rng = np.random.default_rng(0)
    for _ in range(8):
        process = start(script, tmp_path)
        time.sleep(1 + 4 * rng.random())
        process.kill()
        process.communicate()
    finish(start(script, tmp_path))
    assert finish(start(script + COMPILED, tmp_path)).split() == ["0"]


@pytest.mark.slow
def test_many_processes_on_an_empty_cache(tmp_path: Path) -> None:
    script = "from sparse_core.kernels import warmup\nwarmup((1, 4), (1, 8))\n"
    for process in [start(script, tmp_path) for _ in range(6)]:
        finish(process)
    assert all(path.suffix == ".bin" for path in entries(tmp_path))
    assert finish(start(script + COMPILED, tmp_path)).split() == ["0"]
