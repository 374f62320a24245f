"""An ONNX graph computes what the network does."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import Distribution

from sparse_core import SparseConfig, sparsify, to_onnx
from sparse_core.layers.condensed import CondensedLinear
from sparse_core.networks.residual import resnet
from sparse_core.torchvision_compat import prepare_torchvision
from tests.sparse_core.export.subjects import Gaussian, ablate
from tests.sparse_core.networks import mlp


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's exporter, of itself
@pytest.mark.filterwarnings("ignore:Layers that stay masked")
def test_onnx_computes_the_same_for_any_batch(tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    from onnx.reference import ReferenceEvaluator

    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), *mlp(16, 8, 2))
    engine = sparsify(net, SparseConfig(method="srigl", sparsity=0.5, backend="condensed"))
    ablate(engine, 1, [2, 3])
    path = tmp_path / "net.onnx"
    to_onnx(net, torch.randn(3, 1, 4, 4), path)
    onnx.checker.check_model(onnx.load(path))
    for batch in (3, 8):
        x = torch.randn(batch, 1, 4, 4)
        (out,) = ReferenceEvaluator(str(path)).run(None, {"input": x.numpy()})
        np.testing.assert_allclose(out, net(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert net.sparse_engine is engine and type(net[2]) is CondensedLinear


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's exporter, of itself
def test_onnx_of_a_distribution(tmp_path, monkeypatch):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net, x = Gaussian(), torch.randn(2, 3)
    sparsify(net, SparseConfig(method="static", sparsity=0.5))
    expected = net(x).detach().numpy()
    monkeypatch.setattr(Distribution, "_validate_args", True)  # torch.compile leaves it off
    to_onnx(net, x, tmp_path / "net.onnx")
    assert Distribution._validate_args
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=1e-6)
    monkeypatch.setattr(torch.onnx, "export", lambda *args, **fields: 1 / 0)
    for checked in (False, True):
        Distribution.set_default_validate_args(checked)
        with pytest.raises(ZeroDivisionError):
            to_onnx(net, x, tmp_path / "net.onnx")
        assert Distribution._validate_args is checked


def transformer():
    prepare_torchvision()
    vision = pytest.importorskip("torchvision").models.VisionTransformer
    return vision(16, 4, 2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=5)


NETWORKS = {"ResNet-18": lambda: resnet(8, 4, 2), "ViT": transformer}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # torch's exporter, of itself
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_of_networks_for_images(name, tmp_path):
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    net = NETWORKS[name]()
    sparsify(net, SparseConfig(method="srigl", sparsity=0.8, backend="condensed"))
    for batch in (8, 8):  # statistics of batch normalisation, and no zeros in a ViT's head
        out = net(torch.randn(batch, 3, 16, 16))
    out.square().mean().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
    x = torch.randn(3, 3, 16, 16)
    to_onnx(net, x[:2], tmp_path / "net.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "net.onnx")
    (out,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    expected = net.eval()(x).detach().numpy()
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_without_onnx_the_error_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("sparse_core.export.onnx.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"to_onnx needs onnx and onnxscript: pip"):
        to_onnx(mlp(2, 2), torch.zeros(2, 2), tmp_path / "net.onnx")
    monkeypatch.setattr("sparse_core.export.onnx.find_spec", lambda name: name)
    with pytest.raises(ValueError, match=r"example 0 is \(1, 2\): needs a batch of two"):
        to_onnx(mlp(2, 2), torch.zeros(1, 2), tmp_path / "net.onnx")
