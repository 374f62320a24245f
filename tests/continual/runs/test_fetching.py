"""Data sets are fetched by torchvision's downloader, from a server of the test's own."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import struct
import threading

import pytest

from continual.runs.data import load_images
from continual.runs.fetching import SOURCES, FetchError, fetch, listed, present, reason
from sparse_core.checks import InputError

FILES = {
    "train-images-idx3-ubyte": struct.pack(">4i", 2051, 2, 28, 28) + bytes(2 * 784),
    "train-labels-idx1-ubyte": struct.pack(">2i", 2049, 2) + bytes([3, 1]),
    "t10k-images-idx3-ubyte": struct.pack(">4i", 2051, 1, 28, 28) + bytes(784),
    "t10k-labels-idx1-ubyte": struct.pack(">2i", 2049, 1) + bytes([7]),
}
"""MNIST with two images for training and one for testing, in its own format."""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server with MNIST's files, which torchvision takes for the real one."""
    from continual.avalanche_compat import import_avalanche

    import_avalanche()
    from torchvision.datasets import MNIST

    place = tmp_path / "served"
    place.mkdir()
    resources = []
    for name, content in FILES.items():
        packed = gzip.compress(content)
        (place / f"{name}.gz").write_bytes(packed)
        resources.append((f"{name}.gz", hashlib.md5(packed).hexdigest()))
    handler = functools.partial(Quiet, directory=str(place))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{running.server_port}/"])
        monkeypatch.setattr(MNIST, "resources", resources)
        yield place
        running.shutdown()


def test_fetched_data_can_be_loaded_and_is_not_fetched_twice(server, tmp_path):
    root = tmp_path / "data"
    fetch("mnist", root)
    assert present(root) == ["mnist"]
    found = load_images("mnist", root)
    assert found.train_x.shape == (2, 784) and found.test_y.tolist() == [7]
    for file in server.iterdir():
        file.unlink()
    fetch("mnist", root)


def test_what_is_not_what_it_should_be_is_refused(server, tmp_path):
    (server / "t10k-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"something else"))
    with pytest.raises(FetchError, match=r"^mnist: cannot be fetched \(.*\); bring the files"):
        fetch("mnist", tmp_path / "data")


def test_no_network_is_one_line(tmp_path, monkeypatch):
    from continual.avalanche_compat import import_avalanche

    import_avalanche()
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(FetchError) as caught:
        fetch("mnist", tmp_path)
    assert "no network, or the server does not answer" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_name_that_cannot_be_fetched():
    with pytest.raises(InputError, match="dataset='digits': must be one of mnist, "):
        fetch("digits", None)


def test_a_list_says_where_each_data_set_is(tmp_path):
    (tmp_path / "cifar-100-python").mkdir()
    states = {name: state for name, _, state in listed(tmp_path)}
    assert states["cifar100"] == "there"
    assert states["cifar10"] == "dst data get cifar10 (170 MB)"
    assert states["digits"] == "comes with scikit-learn"
    assert {name for name, _, _ in listed(None)} >= set(SOURCES)


def test_reasons_name_no_addresses():
    assert "http" not in reason(OSError("<urlopen error [Errno -2] http://x>"))
    assert reason(ValueError("odd\n file")) == "odd file"
