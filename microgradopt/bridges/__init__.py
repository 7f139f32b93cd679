"""Bridges to other packages, each imported on use: PyTorch, JAX, SciPy."""

from microgradopt.lazy import on_use

__getattr__ = on_use("microgradopt.bridges", {name: name for name in ("jax", "scipy", "torch")})
