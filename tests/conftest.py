"""Before NumPy is imported: one thread for each of the processes that run the tests, as they share the cores."""

import os

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")


def pytest_addoption(parser):
    """Long generators have a short default."""
    parser.addoption("--programs", type=int, default=120, help="how many random programs to compile and print")
    parser.addoption("--interrupts", type=int, default=28, help="of how many steps of each optimizer to interrupt")
    parser.addoption("--objectives", type=int, default=64, help="how many random objectives to classify")
    parser.addoption("--docs", default=None, help="the folder in which the documentation was built")
