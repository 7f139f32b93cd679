"""Here every call of a compiled function is compared with the function itself, where no test says otherwise."""

import pytest

from microgradopt.program import compiled


@pytest.fixture(autouse=True)
def every_call_is_checked(request, monkeypatch):
    if "how_often" not in request.node.name:
        monkeypatch.setitem(compiled._IS_CHECKED, "doubling", lambda call: True)
