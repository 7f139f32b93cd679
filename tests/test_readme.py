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
_, *ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in re.findall(r"^\| ?.*\|$", README.split("## What is there")[1].split("(Checked")[0], re.MULTILINE)
]
TABLE = {row[0]: dict(zip(("ours", "micrograd", "torch", "pyhessian"), row[1:], strict=True)) for row in ROWS[1:]}


def lines(package):
    folder = Path(inspect.getfile(package)).parent
    return sum(len(path.read_text(encoding="utf-8").splitlines()) for path in folder.rglob("*.py"))


def test_ours():
    x = mg.Tensor([1.0, 2.0], requires_grad=True)
    third = x
    for _ in range(3):
        third = mg.grad(np.sum(x**4) if third is x else np.sum(third), [x], create_graph=True)[0]
    np.testing.assert_allclose(third.data, 24 * x.data)

    saddle = mg.Objective(lambda w: (1 - w[0] * w[1]) ** 2, [0.0, 0.0])
    assert mg.critical.classify(saddle).certified
    pairs = mg.curvature.eigenpairs(mg.critical.HessianOperator(saddle), k=1)
    assert pairs.residuals.max() < 1e-9
    assert mg.critical.classify(saddle).escape().measured == pytest.approx(1)
    assert mg.critical.diagnose(saddle).verdict == "saddle point"
    assert {"RMS", "Momentum"} <= set(dir(optim))
    assert mg.draw(np.sum(x * x)).source.startswith("digraph")
    assert "import numpy as np" in mg.source(lambda x: mg.grad(np.sum(x**3), [x]), x)
    assert not hasattr(nn, "Conv2d")
    ours = int(TABLE["lines of Python"]["ours"].replace(",", ""))
    assert lines(mg) == pytest.approx(ours, rel=0.05)


def test_micrograd():
    engine = pytest.importorskip("micrograd.engine")
    a = engine.Value(2.0)
    (a * a).backward()
    assert type(a.grad) is float, "a number, with no graph of its own"
    with pytest.raises(TypeError):
        engine.Value(np.ones(2)).data ** engine.Value(2.0)  # exponents, too, are numbers
    names = {name for module in ("engine", "nn") for name in dir(importlib.import_module(f"micrograd.{module}"))}
    assert not names & {"draw_dot", "RMS", "Optimizer", "hessian", "classify"}
    assert lines(importlib.import_module("micrograd")) == pytest.approx(
        int(TABLE["lines of Python"]["micrograd"]), rel=0.1
    )


@pytest.mark.parity
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torch():
    torch = pytest.importorskip("torch")
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    (g,) = torch.autograd.grad((x**4).sum(), x, create_graph=True)
    (h,) = torch.autograd.grad(g.sum(), x, create_graph=True)
    (third,) = torch.autograd.grad(h.sum(), x)
    torch.testing.assert_close(third, 24 * x.detach())
    H = torch.func.hessian(lambda w: (1 - w[0] * w[1]) ** 2)(torch.zeros(2))
    torch.testing.assert_close(torch.linalg.eigvalsh(H), torch.tensor([-2.0, 2.0]))
    assert not {"RMS", "Momentum"} & set(dir(torch.optim))
    assert not {"classify", "diagnose", "draw"} & (set(dir(torch)) | set(dir(torch.autograd)) | set(dir(torch.func)))
    theta = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=0.1, momentum=0.9)
    for lr in (0.1, 0.01):
        optimizer.param_groups[0]["lr"] = lr
        theta.grad = torch.ones(1)
        optimizer.step()
    assert theta.item() == pytest.approx(-0.119), "η is outside of the momentum"
    assert hasattr(torch.nn, "Conv2d")


@pytest.mark.parity
def test_pyhessian():
    pytest.importorskip("torch")
    pyhessian = pytest.importorskip("pyhessian")
    methods = {name for name in dir(pyhessian.hessian) if not name.startswith("_")}
    assert methods == {"dataloader_hv_product", "density", "eigenvalues", "trace"}
    assert "power iteration" in inspect.getdoc(pyhessian.hessian.eigenvalues)


def test_every_row_is_looked_at():
    assert len(TABLE) == 10
    assert all(len(row) == 5 for row in ROWS)
