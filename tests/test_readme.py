"""The README's table, cell by cell where a library is installed."""

import importlib
import inspect
import re
from pathlib import Path

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import nn, optim

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
HEAD, _, *ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in re.findall(r"^\| ?.*\|$", README.split("## Beside others")[1].split("\n\n(")[0], re.MULTILINE)
]
TABLE = {row[0]: dict(zip(HEAD[1:], row[1:], strict=True)) for row in ROWS}
OURS_ALONE = {"classify", "diagnose"}


def has_lines(package, rel):
    """The number of lines of Python is about as the table says."""
    module = importlib.import_module(package)
    paths = Path(inspect.getfile(module)).parent.rglob("*.py")
    counted = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in paths)
    name = {"jax": "JAX", "torch": "PyTorch", "torchlens": "TorchLens"}.get(package, package)
    return counted == pytest.approx(int(TABLE["lines of Python"][name].replace(",", "")), rel=rel)


def optimizers(module, base):
    kinds = (value for value in vars(module).values() if isinstance(value, type) and issubclass(value, base))
    return len({kind for kind in kinds if kind is not base})


def test_every_row_is_looked_at():
    assert list(TABLE) == [
        "works on",
        "gradients of gradients",
        "the Hessian",
        "kind of a critical point, and the way out",
        "why is my loss stuck",
        "optimizers",
        "pictures of the computation",
        "the derivative as a program to read",
        "GPUs, convolutions, large models",
        "lines of Python",
    ]
    assert HEAD[1:] == ["microgradopt", "JAX", "PyTorch", "micrograd", "curvlinops", "TorchLens"]


def test_ours():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    third = np.sum(x**4)
    for _ in range(3):
        third = np.sum(mg.grad(third, [x], create_graph=True)[0])
    assert third.item() == pytest.approx(24 * (1 + 2))
    saddle = mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0])
    assert mg.critical.classify(saddle).certified
    assert mg.curvature.eigenpairs(mg.critical.HessianOperator(saddle), k=1).residuals.max() < 1e-9
    assert mg.critical.classify(saddle).escape().measured == pytest.approx(1)
    assert mg.critical.diagnose(saddle).verdict == "saddle point"
    assert optimizers(optim, optim.Optimizer) == int(TABLE["optimizers"]["microgradopt"])
    assert mg.draw(np.sum(x * x)).source.startswith("digraph")
    for target, line in {
        "numpy": "import numpy as np", "jax": "import jax", "torch": "import torch", "cupy": "import cupy",
        "javascript": "function",
    }.items():  # fmt: skip
        assert line in str(mg.source(lambda x: mg.grad(np.sum(x**3), [x]), x, target=target))
    assert not hasattr(nn, "Conv2d")
    assert has_lines("microgradopt", 0.05)


@pytest.mark.parity
def test_jax():
    jax = pytest.importorskip("jax")
    f = lambda x: jax.numpy.sum(x**4)  # noqa: E731
    third = jax.grad(lambda x: jax.grad(lambda x: jax.grad(f)(x).sum())(x).sum())(jax.numpy.ones(1))
    assert third[0] == 24
    assert jax.hessian(f)(jax.numpy.ones(2)).shape == (2, 2)
    assert "integer_pow" in str(jax.make_jaxpr(jax.grad(f))(jax.numpy.ones(2)))
    assert jax.jit(f).lower(jax.numpy.ones(2)).compiler_ir("hlo").as_hlo_dot_graph().startswith("digraph")
    _, product = jax.jvp(jax.grad(f), (jax.numpy.ones(2),), (jax.numpy.ones(2),))
    assert product.tolist() == [12, 12]
    assert not {"optimizers", *OURS_ALONE} & set(dir(jax))
    optax = pytest.importorskip("optax")
    assert hasattr(optax, "adam")
    assert has_lines("jax", 0.2)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torch():
    torch = pytest.importorskip("torch")
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.passes import graph_drawer

    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (g,) = torch.autograd.grad((x**4).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    (third,) = torch.autograd.grad(h.sum(), x)
    torch.testing.assert_close(third, 24 * x.detach())
    H = torch.func.hessian(lambda w: (1 - w[0] * w[1]) ** 2)(torch.zeros(2))
    torch.testing.assert_close(torch.linalg.eigvalsh(H), torch.tensor([-2.0, 2.0]))
    assert "def forward" in make_fx(torch.func.grad(lambda x: (x**4).sum()))(torch.ones(2)).code
    assert hasattr(graph_drawer, "FxGraphDrawer")
    assert torch.func.hessian(lambda x: (x**4).sum())(torch.ones(2)).tolist() == [[12, 0], [0, 12]]
    assert not OURS_ALONE & (set(dir(torch)) | set(dir(torch.autograd)) | set(dir(torch.func)))
    assert optimizers(torch.optim, torch.optim.Optimizer) == int(TABLE["optimizers"]["PyTorch"])
    assert hasattr(torch.nn, "Conv2d")
    assert has_lines("torch", 0.2)


def test_micrograd():
    engine = pytest.importorskip("micrograd.engine")
    a = engine.Value(2.0)
    (a * a).backward()
    assert type(a.grad) is float, "a number, with no graph of its own"
    with pytest.raises(TypeError):
        engine.Value(np.ones(2)).data ** engine.Value(2.0)  # exponents, too, are numbers
    names = {name for module in ("engine", "nn") for name in dir(importlib.import_module(f"micrograd.{module}"))}
    assert not names & {"draw_dot", "RMS", "Optimizer", "hessian", *OURS_ALONE}
    assert has_lines("micrograd", 0.1)


@pytest.mark.parity
def test_curvlinops():
    pytest.importorskip("torch")
    peer = pytest.importorskip("curvlinops")
    named = {"HessianLinearOperator", "GGNLinearOperator", "FisherMCLinearOperator", "KFACLinearOperator"}
    assert {*named, "lanczos_approximate_spectrum"} <= set(dir(peer))
    assert not {"draw", "Adam", *OURS_ALONE} & set(dir(peer))
    assert has_lines("curvlinops", 0.2)


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore")
def test_torchlens():
    torch = pytest.importorskip("torch")
    peer = pytest.importorskip("torchlens")
    model = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2))
    run = peer.trace(model, torch.ones(3, 2))
    assert {"draw", "draw_backward"} <= set(dir(run))
    assert not {"hessian", "Adam", *OURS_ALONE} & {*dir(peer), *dir(run)}
    assert has_lines("torchlens", 0.2)
