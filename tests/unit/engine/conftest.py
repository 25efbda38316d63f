import pytest


@pytest.fixture(autouse=True)
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neurons run uncompiled: the numbers are the same, and nothing here is about speed."""
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
