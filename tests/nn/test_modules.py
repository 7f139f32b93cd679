"""Modules: registration, state, repr; layers beside PyTorch; initial weights."""

import copy
import math
import pickle

import numpy as np
import pytest

import microgradopt as mg
from microgradopt import Tensor, nn, optim
from microgradopt.nn import init


class Net(nn.Module):
    def __init__(self, rng):
        self.first = nn.Linear(3, 4, rng=rng)
        self.blocks = [nn.Linear(4, 4, rng=rng), nn.Tanh(), nn.Linear(4, 4, bias=False, rng=rng)]
        self.scale = Tensor(np.ones(4), requires_grad=True)
        self.constant = Tensor(np.ones(4))
        self.size = 4

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x * self.scale + self.constant


NAMES = ["scale", "first.weight", "first.bias", "blocks.0.weight", "blocks.0.bias", "blocks.2.weight"]


class TestModule:
    def test_what_is_registered(self):
        net = Net(0)
        assert [name for name, _ in net.named_parameters()] == NAMES
        assert list(net.state_dict()) == NAMES
        assert [name for name, _ in net.named_modules()] == ["", "first", "blocks.0", "blocks.1", "blocks.2"]

    def test_frozen_stays_registered_and_results_are_not(self):
        net = Net(0)
        net.scale.requires_grad = False
        net.last = net.first.weight * 2
        assert [name for name, _ in net.named_parameters()] == NAMES
        net.scale = None
        assert "scale" not in net.state_dict()
        del net.first
        assert not any(name.startswith("first") for name in net.state_dict())

    def test_shared_parameters_count_once(self):
        net = Net(0)
        net.again = net.first
        assert len(list(net.parameters())) == 6
        assert "again.weight" in net.state_dict()

    def test_gradients_reach_all_and_are_cleared(self):
        net = Net(0)
        np.sum(net(np.ones((2, 3))) ** 2).backward()
        assert all(p.grad is not None for p in net.parameters())
        net.zero_grad()
        assert all(p.grad is None for p in net.parameters())

    def test_repr_has_shapes_and_counts(self):
        text = repr(nn.MLP((64, 32, 10), rng=0))
        for part in ("2,410 parameters", "(0): Linear(64, 32)", "weight (32, 64)", "bias (10,)", "ReLU()"):
            assert part in text
        assert "blocks.2" in repr(Net(0))

    def test_copies(self):
        net = Net(0)
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            for p, q in zip(net.parameters(), other.parameters(), strict=True):
                assert p is not q
                np.testing.assert_array_equal(p.data, q.data)
                assert q.requires_grad

    def test_no_forward(self):
        with pytest.raises(NotImplementedError, match="Module has no forward"):
            nn.Module()(1)

    def test_sequential(self):
        layers = [nn.Linear(2, 3, rng=0), nn.Tanh(), nn.Linear(3, 1, rng=0)]
        net = nn.Sequential(*layers)
        assert list(net) == layers
        assert len(net) == 3
        assert net[1] is layers[1]
        x = np.ones((4, 2))
        np.testing.assert_array_equal(net(x).data, layers[2](np.tanh(layers[0](x))).data)

    def test_mlp_wants_two_sizes(self):
        with pytest.raises(ValueError, match="sizes"):
            nn.MLP((3,))

    def test_float32(self):
        net = nn.MLP((2, 3, 1), rng=0, dtype=np.float32)
        out = net(np.ones((4, 2), np.float32))
        assert out.dtype == np.float32
        out.sum().backward()
        assert all(p.grad.dtype == np.float32 for p in net.parameters())

    def test_constant_inputs_are_not_differentiated(self):
        net = nn.MLP((2, 3, 1), rng=0)
        x = Tensor(np.ones((4, 2)))
        net(x).sum().backward()
        assert x.grad is None

    @pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 4, 5)])
    def test_linear_with_any_leading_axes(self, shape):
        rng = np.random.default_rng(0)
        inputs = [Tensor(rng.normal(size=s), requires_grad=True) for s in (shape, (3, 5), (3,))]
        np.testing.assert_allclose(
            nn.functional.linear(*inputs).data, inputs[0].data @ inputs[1].data.T + inputs[2].data, rtol=1e-14
        )
        mg.gradcheck(nn.functional.linear, inputs, order=2)
        mg.gradcheck(nn.functional.linear, inputs[:2], order=2)

    def test_wrong_width_names_the_shapes(self):
        with pytest.raises(ValueError, match=r"linear: .*\(4, 5\).*\(2, 3\)"):
            nn.Linear(3, 2, rng=0)(np.ones((4, 5)))
        with pytest.raises(ValueError, match=r"LayerNorm.*\(4, 5\)"):
            nn.LayerNorm(3)(Tensor(np.ones((4, 5))))


class TestStateDict:
    def test_round_trip(self):
        one, other = Net(0), Net(1)
        other.load_state_dict(one.state_dict())
        x = np.ones((2, 3))
        np.testing.assert_array_equal(one(x).data, other(x).data)

    def test_is_a_copy(self):
        net = Net(0)
        net.state_dict()["scale"][:] = 7.0
        assert (net.scale.data == 1.0).all()

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (lambda s: s.pop("scale"), KeyError),
            (lambda s: s.update(more=np.ones(2)), KeyError),
            (lambda s: s.update(scale=np.ones(5)), ValueError),
            (lambda s: s.update(scale=np.ones(4, complex)), ValueError),
            (lambda s: s.update(scale=np.array(["a"] * 4)), ValueError),
            (lambda s: s.update(scale=[{}] * 4), ValueError),
        ],
    )
    def test_a_bad_one_changes_nothing(self, spoil, error):
        net, before = Net(0), Net(0).state_dict()
        bad = Net(1).state_dict()
        spoil(bad)
        with pytest.raises(error, match="nothing was loaded"):
            net.load_state_dict(bad)
        assert all(np.array_equal(before[name], array) for name, array in net.state_dict().items())

    def test_not_strict_takes_what_fits_by_name(self):
        net = Net(0)
        net.load_state_dict({"scale": np.full(4, 2.0), "unknown": np.ones(1)}, strict=False)
        assert (net.scale.data == 2.0).all()


@pytest.mark.parity
class TestPyTorch:
    def test_mlp_from_a_state_dict(self):
        torch = pytest.importorskip("torch")
        torch.manual_seed(0)
        reference = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.GELU(), torch.nn.Linear(8, 3)).double()
        net = nn.MLP((4, 8, 3), activation=nn.GELU, rng=0)
        state = {name: value.numpy() for name, value in reference.state_dict().items()}
        assert list(net.state_dict()) == list(state)
        net.load_state_dict(state)
        x, y = np.random.default_rng(0).normal(size=(6, 4)), np.array([0, 1, 2, 0, 1, 2])
        loss = nn.cross_entropy(net(x), y)
        expected = torch.nn.functional.cross_entropy(reference(torch.tensor(x)), torch.tensor(y))
        loss.backward()
        expected.backward()
        assert loss.item() == pytest.approx(expected.item(), rel=1e-13)
        for p, q in zip(net.parameters(), reference.parameters(), strict=True):
            np.testing.assert_allclose(p.grad, q.grad.numpy(), rtol=1e-11, atol=1e-14)

    @pytest.mark.parametrize("shape", [4, (3, 4)])
    def test_layer_norm(self, shape):
        torch = pytest.importorskip("torch")
        rng = np.random.default_rng(0)
        x = rng.normal(size=(5, 3, 4))
        mine, reference = nn.LayerNorm(shape), torch.nn.LayerNorm(shape, dtype=torch.float64)
        weights = {"weight": rng.normal(size=mine.weight.shape), "bias": rng.normal(size=mine.bias.shape)}
        mine.load_state_dict(weights)
        reference.load_state_dict({name: torch.tensor(value) for name, value in weights.items()})
        ours, theirs = Tensor(x, requires_grad=True), torch.tensor(x, requires_grad=True)
        out, expected = mine(ours), reference(theirs)
        np.testing.assert_allclose(out.data, expected.detach().numpy(), rtol=1e-12, atol=1e-13)
        np.sum(out**3).backward()
        (expected**3).sum().backward()
        np.testing.assert_allclose(ours.grad, theirs.grad.numpy(), rtol=1e-10, atol=1e-11)
        mg.gradcheck(lambda x: mine(x), Tensor(x[:1], requires_grad=True), order=2)

    def test_hundred_steps_of_training(self):
        torch = pytest.importorskip("torch")
        net = nn.MLP((4, 8, 3), activation=nn.Tanh, rng=0)
        reference = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3)).double()
        reference.load_state_dict({name: torch.tensor(array) for name, array in net.state_dict().items()})
        x, y = np.random.default_rng(0).normal(size=(30, 4)), np.random.default_rng(1).integers(0, 3, 30)
        mine, theirs = optim.Adam(net.parameters(), 0.01), torch.optim.Adam(reference.parameters(), 0.01)
        for _ in range(100):
            mine.zero_grad()
            theirs.zero_grad()
            nn.cross_entropy(net(x), y).backward()
            torch.nn.functional.cross_entropy(reference(torch.tensor(x)), torch.tensor(y)).backward()
            mine.step()
            theirs.step()
        for p, q in zip(net.parameters(), reference.parameters(), strict=True):
            np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-7, atol=1e-9)


LAYERS = {
    nn.ReLU(): "relu", nn.LeakyReLU(0.2): "leaky_relu", nn.ELU(0.5): "elu", nn.SELU(): "selu", nn.GELU(): "gelu",
    nn.SiLU(): "silu", nn.Tanh(): "tanh", nn.Sigmoid(): "sigmoid", nn.Softplus(2.0): "softplus", nn.Softmax(0): "softmax",
}  # fmt: skip


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_activation_layers_are_their_functions(layer):
    x = np.random.default_rng(0).normal(size=(3, 2))
    settings = {"LeakyReLU": [0.2], "ELU": [0.5], "Softplus": [2.0], "Softmax": [0]}.get(type(layer).__name__, [])
    function = np.tanh if isinstance(layer, nn.Tanh) else getattr(nn.functional, LAYERS[layer])
    np.testing.assert_array_equal(layer(Tensor(x)).data, function(x, *settings))


class TestInit:
    SHAPE = (300, 200)

    @pytest.mark.parametrize(
        ("draw", "deviation"),
        [
            (init.xavier_uniform, math.sqrt(2 / 500)),
            (init.xavier_normal, math.sqrt(2 / 500)),
            (init.kaiming_uniform, math.sqrt(2 / 200)),
            (init.kaiming_normal, math.sqrt(2 / 200)),
        ],
    )
    def test_spread(self, draw, deviation):
        weights = draw(self.SHAPE, rng=0)
        assert weights.std() == pytest.approx(deviation, rel=0.01)
        assert abs(weights.mean()) < 4 * deviation / math.sqrt(weights.size)
        if "uniform" in draw.__name__:
            assert np.abs(weights).max() <= deviation * math.sqrt(3)

    def test_gain(self):
        np.testing.assert_allclose(init.xavier_normal((4, 3), gain=2.0, rng=0), 2 * init.xavier_normal((4, 3), rng=0))

    @pytest.mark.parametrize("shape", [(5, 3), (3, 5), (4, 4)])
    def test_orthogonal(self, shape):
        q = init.orthogonal(shape, gain=2.0, rng=0) / 2
        small = q @ q.T if shape[0] <= shape[1] else q.T @ q
        np.testing.assert_allclose(small, np.eye(min(shape)), atol=1e-14)

    def test_orthogonal_is_uniform(self):
        """Householder's QR prefers one sign; uniform matrices have entries of mean 0, with variance 1/n."""
        corners = [init.orthogonal((4, 4), rng=seed)[0, 0] for seed in range(400)]
        assert abs(np.mean(corners)) < 4 * 0.5 / math.sqrt(400)

    def test_linear_default_is_pytorchs(self):
        layer = nn.Linear(100, 50, rng=0)
        for values in (layer.weight.data, layer.bias.data):
            assert np.abs(values).max() <= 0.1
            assert values.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.15)

    def test_same_seed_same_bits_and_one_generator_goes_on(self):
        one, other = nn.Linear(3, 4, rng=7), nn.Linear(3, 4, rng=np.random.default_rng(7))
        np.testing.assert_array_equal(one.weight.data, other.weight.data)
        generator = np.random.default_rng(7)
        first, second = nn.Linear(3, 4, rng=generator), nn.Linear(3, 4, rng=generator)
        assert (first.weight.data != second.weight.data).all()

    def test_refusals(self):
        for draw in (
            init.xavier_uniform,
            init.xavier_normal,
            init.kaiming_uniform,
            init.kaiming_normal,
            init.orthogonal,
        ):
            with pytest.raises(ValueError, match=draw.__name__):
                draw((3,))
