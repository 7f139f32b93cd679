"""What docs/from_pytorch.md shows: three PyTorch models in float32, an own loop, and the verdicts."""

import torch
from sklearn.datasets import load_digits

from microgradopt import critical
from microgradopt.bridges import torch as bridge

F = torch.nn.functional
torch.manual_seed(0)
images, labels = load_digits(return_X_y=True)
images, labels = torch.tensor(images[:640] / 16, dtype=torch.float32), torch.tensor(labels[:640])


def trained(model, loss, optimizer, batches, epochs):
    """The loop that everyone writes; the loss of each update."""
    losses = []
    for _ in range(epochs):
        for X, y in batches:
            optimizer.zero_grad()
            value = loss(model(X), y)
            value.backward()
            optimizer.step()
            losses.append(value.item())
    return losses


# autoencoder
pairs = list(zip(images.split(32), images.split(32), strict=True))
model = torch.nn.Sequential(
    torch.nn.Linear(64, 32), torch.nn.Sigmoid(), torch.nn.Linear(32, 8), torch.nn.Sigmoid(), torch.nn.Linear(8, 64)
)
sgd = torch.optim.SGD(model.parameters(), lr=0.1)
losses = trained(model, F.mse_loss, sgd, pairs, 50)  # stuck at 0.073, the variance of the pixels
autoencoder = critical.diagnose(bridge.run(model, F.mse_loss, pairs, sgd, history=losses), budget=1500)
print(autoencoder)
cured = autoencoder.cure().train(200)
bridge.write(model, cured.objective.theta)  # back into the model
print(f"loss {cured.value():.4f}")
# convolutional net
pairs = list(zip(images.reshape(-1, 1, 8, 8).split(32), labels.split(32), strict=True))
model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 10))
adam = torch.optim.Adam(model.parameters(), lr=1e-6)
losses = trained(model, F.cross_entropy, adam, pairs, 5)
convolutional = critical.diagnose(bridge.run(model, F.cross_entropy, pairs, adam, history=losses), budget=800)
print(convolutional.verdict, convolutional.code)
# transformer


class Copying(torch.nn.Module):
    """Two layers of self-attention that are to give back the word before."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(6, 16)
        self.place = torch.nn.Parameter(torch.randn(8, 16) / 4)
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
        self.layers = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = torch.nn.Linear(16, 6)

    def forward(self, words):
        """Logits (batch, words, places), as F.cross_entropy wants them."""
        return self.out(self.layers(self.embed(words) + self.place)).transpose(1, 2)


words = torch.randint(6, (320, 8))
pairs = list(zip(words.split(32), words.roll(1, dims=1).split(32), strict=True))
model = Copying()
adam = torch.optim.Adam(model.parameters(), lr=1e-6)
losses = trained(model, F.cross_entropy, adam, pairs, 10)
transformer = critical.diagnose(bridge.run(model, F.cross_entropy, pairs, adam, history=losses), budget=800)
print(transformer.verdict, transformer.code)
# a point
objective = bridge.objective(model.eval(), lambda: F.cross_entropy(model(words), words.roll(1, dims=1)))
H = critical.HessianOperator(objective)
print(objective.n, critical.classify(objective, max_products=60).kind)
