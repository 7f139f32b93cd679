"""Before NumPy is imported: one thread for each of the processes that run the tests, as they share the cores."""

import os

from hypothesis import settings

for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

# The same examples in every run, so that a failure is of the change that is tested. `--hypothesis-profile=random` draws
# fresh ones.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.register_profile("random", deadline=None)
settings.load_profile("repeatable")


def pytest_addoption(parser):
    """Long generators have a short default."""
    parser.addoption(
        "--long", action="store_true", help="also the long tests: demos, pages in a browser, other libraries' compilers"
    )
    parser.addoption("--programs", type=int, default=60, help="how many random programs to compile and print")
    parser.addoption("--interrupts", type=int, default=28, help="of how many steps of each optimizer to interrupt")
    parser.addoption("--objectives", type=int, default=64, help="how many random objectives to classify")
    parser.addoption("--docs", default=None, help="the folder in which the documentation was built")


def pytest_collection_modifyitems(config, items):
    """Leave the long tests out, unless they are asked for: those marked so, and those in a browser."""
    for item in items:
        if "chromium" in item.fixturenames:
            item.add_marker("long")
    if not config.getoption("--long"):
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("long")])
        items[:] = [item for item in items if not item.get_closest_marker("long")]
