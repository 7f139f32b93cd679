"""The front door: what is there is shown, loaded on use, and has types."""

import importlib
import importlib.util
import inspect
import pkgutil
import subprocess
import sys
import textwrap

import pytest

import microgradopt as mg


def run(code):
    return subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True, capture_output=True, text=True)


def test_dir_shows_what_there_is():
    assert set(mg.__all__) <= set(dir(mg))
    assert all(name in mg.__all__ or name.startswith("__") for name in dir(mg))
    assert all(getattr(mg, name) is not None for name in mg.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mg.nothing
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = mg.graph.nothing


def test_the_heavy_rooms_are_loaded_on_first_use():
    run("""
        import sys, microgradopt as mg
        names = ("critical", "diagnosis", "graph", "page", "picture", "plots", "program", "training")
        heavy = [f"microgradopt.{name}" for name in names]
        assert not [name for name in heavy if name in sys.modules]
        mg.training, mg.critical, mg.diagnosis, mg.graph, mg.page, mg.picture, mg.plots, mg.program
        assert all(name in sys.modules for name in heavy)
        assert mg.compile is mg.program.compile
    """)


def test_without_the_package_graphviz_only_pictures_are_missing():
    run("""
        import sys
        sys.modules["graphviz"] = None
        import numpy as np, microgradopt as mg
        x = mg.Tensor([1.0, 2.0], requires_grad=True)
        loss = np.sum(x * x)
        assert len(mg.trace(loss).nodes) == 3
        assert mg.compile(lambda a: a * 2)(np.ones(2)).tolist() == [2, 2]
        assert "def" in str(mg.source(lambda a: a * 2, np.ones(2)))
        try:
            mg.draw(loss)
        except ModuleNotFoundError:
            pass
        else:
            raise AssertionError
    """)


def modules():
    """All of them, but for those that import what is not installed."""
    names = [m.name for m in pkgutil.walk_packages(mg.__path__, "microgradopt.")]
    needs = {"bridges.jax": "jax", "bridges.torch": "torch", "program.native.math": "numba"}
    absent = [f"microgradopt.{name}" for name, other in needs.items() if importlib.util.find_spec(other) is None]
    return [name for name in names if name not in absent]


def test_no_function_has_the_name_of_its_module():
    """``import microgradopt.critical.find as m`` gave the function."""
    for name in modules():
        package, _, last = name.rpartition(".")
        found = getattr(importlib.import_module(package), last, None)
        assert found is None or inspect.ismodule(found) or last == "trace", name


def test_old_names_still_work_for_a_release():
    with pytest.warns(DeprecationWarning, match=r"rules\.nondifferentiable is now"):
        _ = mg.rules.nondifferentiable
    with pytest.warns(DeprecationWarning, match=r"graph\.compile is now microgradopt\.program\.compile"):
        assert mg.graph.compile is mg.compile
    with pytest.warns(DeprecationWarning, match=r"rules\.kinked is now"):
        _ = mg.rules.kinked
    with pytest.warns(DeprecationWarning, match=r"conjugate_gradient\(max_iterations=\.\.\.\) is now max_iter="):
        mg.curvature.conjugate_gradient([[2.0]], [1.0], max_iterations=3)
    objective = mg.Objective(lambda w: (w * w).sum(), [1.0])
    with pytest.warns(DeprecationWarning, match=r"find\(iterations=\.\.\.\) is now max_iter="):
        mg.critical.find(objective, [[1.0]], iterations=3)
    with pytest.warns(DeprecationWarning, match=r"classify\(products=\.\.\.\) is now max_products=") as warned:
        mg.critical.classify(objective, products=100)
    assert warned[0].filename == __file__, "Python shows it to whoever calls"


TYPED = """
import numpy as np
import microgradopt as mg
from microgradopt import nn, optim

model = nn.MLP((2, 3, 1), rng=0)
reveal_type(model(np.ones((4, 2))))
loss = nn.mse_loss(model(np.ones((4, 2))), np.ones((4, 1)))
reveal_type(loss)
reveal_type(nn.functional.relu(loss))
reveal_type(mg.draw(loss))
reveal_type(mg.softmax)

def twice(x: float) -> float:
    return 2 * x

reveal_type(mg.compile(twice)(1.0))
optimizer = optim.Adam(model.parameters(), lr=0.1, betas=(0.5, 0.9))
reveal_type(optimizer.step())
reveal_type(optimizer.step(lambda: loss))
optim.Adam(model.parameters(), learning_rate=0.1)
optim.Adam(model.parameters(), betas=0.9)
loss.backwrd()
"""


@pytest.mark.long
def test_types_that_an_editor_can_use(tmp_path):
    pytest.importorskip("mypy")
    (tmp_path / "user.py").write_text(TYPED)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(tmp_path / "user.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    revealed = [line.split("Revealed type is ")[1] for line in done.stdout.splitlines() if "Revealed" in line]
    short = [text.strip('"').replace("microgradopt.", "").replace("builtins.", "") for text in revealed]
    assert short[:4] == ["tensor.Tensor", "tensor.Tensor", "tensor.Tensor", "picture.render.Drawing"]
    assert "axis: int" in short[4]
    assert short[5:] == ["float", "None", "tensor.Tensor"]
    for wrong in ('Unexpected keyword argument "learning_rate"', 'Argument "betas"', '"backwrd"'):
        assert wrong in done.stdout
    assert "Found 3 errors" in done.stdout


@pytest.mark.parametrize("name", ["rng"])
def test_randomness_has_one_meaning(name):
    """A seed or a Generator repeats, None draws afresh; analyses begin at 0, what is trained draws afresh."""
    fresh, repeated = [], []
    for module in map(importlib.import_module, modules()):
        for function in vars(module).values():
            if not inspect.isfunction(function) or function.__module__ != module.__name__:
                continue
            parameter = inspect.signature(function).parameters.get(name)
            if parameter is None or parameter.default is parameter.empty or function.__name__.startswith("_"):
                continue
            (fresh if parameter.default is None else repeated).append(function.__name__)
            assert parameter.default in (None, 0), function
    assert set(fresh) >= {"batches", "fit", "xavier_uniform"}
    assert set(repeated) >= {"classify", "diagnose", "eigenpairs", "gradcheck", "filter_normalised"}
