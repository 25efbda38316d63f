import math

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.neurons import list_surrogates
from step_ahsar.neurons.surrogate import get_surrogate, resolve_alpha

A = torch.tensor(2.0, dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "u", "expected"),
    [
        ("sigmoid", 0.0, 2.0 / 4),
        ("sigmoid", 0.5, 2 * math.exp(-1) / (1 + math.exp(-1)) ** 2),
        ("atan", 0.0, 1.0),
        ("atan", 1.0, 1 / (1 + math.pi**2)),
        ("piecewise_quadratic", 0.0, 2.0),
        ("piecewise_quadratic", -0.25, 1.0),  # halfway to 1 / alpha
        ("piecewise_quadratic", 0.5, 0.0),
        ("rectangle", 0.24, 2.0),
        ("rectangle", -0.26, 0.0),
        ("triangle", 0.0, 2.0),
        ("triangle", 0.75, 0.5),
        ("triangle", 1.5, 0.0),
    ],
)
def test_values_by_hand(name, u, expected):
    u = torch.tensor(u, dtype=torch.float64)
    assert get_surrogate(name)(u, A).item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("name", ["sigmoid", "atan", "piecewise_quadratic", "rectangle"])
@pytest.mark.parametrize("alpha", [0.5, 1.0, 4.0])
def test_area_is_one(name, alpha):
    u = torch.linspace(-2000, 2000, 4_000_001, dtype=torch.float64)
    area = torch.trapezoid(get_surrogate(name)(u, torch.tensor(alpha, dtype=torch.float64)), u)
    assert area.item() == pytest.approx(1.0, abs=5e-3)


def test_defaults_and_errors():
    assert set(list_surrogates()) == {"sigmoid", "atan", "piecewise_quadratic", "rectangle", "triangle"}
    assert resolve_alpha("sigmoid", None) == 4.0
    assert resolve_alpha("atan", 3) == 3.0
    with pytest.raises(UserError, match="did you mean 'sigmoid'"):
        get_surrogate("sigmiod")
    for bad in (0.0, -1.0, math.nan):
        with pytest.raises(UserError, match="alpha must be > 0"):
            resolve_alpha("atan", bad)
