"""`dst doctor` says what is wrong and what to do, and one fault does not hide the rest."""

from __future__ import annotations

import pytest

from sweeps.bench import doctor
from sweeps.bench.doctor import Finding
from sweeps.cli import main as dst


@pytest.mark.parametrize(
    ("torch_version", "requires", "said"),
    [
        ("2.13.0+cpu", ["numpy", "torch==2.13.0"], ""),
        ("2.13.0", ["torch (==2.13.0)"], ""),
        ("2.12.1+cu126", ["torch==2.13.0"], "0.28.0 needs torch 2.13.0, but 2.12.1+cu126 is"),
        ("2.13.0", ["numpy"], ""),
    ],
)
def test_torchvision_of_another_torch(torch_version, requires, said):
    found = doctor.mismatch(torch_version, "0.28.0", requires)
    assert found.startswith(said) and bool(found) == bool(said)


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("SPARSE_CORE_CACHE_DIR", str(file / "below"))
    (finding,) = doctor.kernels()
    assert str(file) in finding.advice and "set SPARSE_CORE_CACHE_DIR" in finding.advice
    monkeypatch.setenv("SPARSE_CORE_CACHE_DIR", str(tmp_path))
    (finding,) = doctor.kernels()
    assert not finding.advice and finding.text == f"1 files in {tmp_path}"


def test_a_data_folder_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("DST_DATA", str(tmp_path / "none"))
    (finding,) = doctor.data()
    assert finding.advice.endswith("is no folder: make it, or name another")
    monkeypatch.setenv("DST_DATA", str(tmp_path))
    assert next(doctor.data()) == Finding("data", f"nothing in {tmp_path}")


def test_one_fault_does_not_hide_the_rest(monkeypatch, capsys):
    def broken():
        raise OSError("libcudart.so: cannot open\nshared object file")
        yield

    monkeypatch.setattr(doctor, "CHECKS", (broken, lambda: iter([Finding("data", "there")])))
    assert doctor.main() == 1
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["broken", "could", "not", "be", "looked", "at"]
    assert said[1].split() == ["data", "there"]
    assert said[2] == "! broken: libcudart.so: cannot open shared object file"


def test_all_is_well(monkeypatch):
    monkeypatch.setattr(doctor, "CHECKS", (doctor.extras, doctor.gpu, doctor.machine))
    assert dst(["doctor"]) == 0


def test_data_sets_on_the_command_line(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DST_DATA", raising=False)
    assert dst(["data", "list"]) == 0
    assert "dst data get mnist" in capsys.readouterr().out
    assert dst(["data", "get", "mnist"]) == 2
    assert "say where to put them" in capsys.readouterr().err
    assert dst(["data", "get", "mnsit", "--data", str(tmp_path)]) == 2
    assert "dataset='mnsit': must be one of mnist, " in capsys.readouterr().err
