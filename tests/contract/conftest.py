from importlib.util import find_spec

import pytest


@pytest.fixture(autouse=True)
def installed(request):
    """Skips a test of a backend whose library is missing; library and backend go by one name."""
    backend = getattr(request.node, "callspec", None) and request.node.callspec.params.get("backend")
    if backend and find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
