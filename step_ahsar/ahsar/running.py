"""Finding the model that a neuron is in, while the model runs."""

import inspect
import sys
from types import FrameType
from typing import Any

from torch import nn


def running_model(part: nn.Module) -> nn.Module | None:
    """The outermost module that holds ``part`` and one of whose methods is running; None if there is none.

    A module does not know the modules around it. But while it runs, their methods are on the call stack. This holds for
    every way to call a model: ``model(x)``, ``model.forward_features(x)``, inside a wrapper, and while a call is
    traced for ``torch.compile``. Nothing has to be registered beforehand, in the model or in the process.
    """
    outermost = None
    frame = inspect.currentframe()
    while frame is not None:
        module = _self_of(frame)
        # type(), because an object that stands in for another one may run code of its own when its class is asked for.
        is_around = issubclass(type(module), nn.Module) and module is not part
        if is_around and any(each is part for each in module.modules()):
            outermost = module
        frame = frame.f_back
    return outermost


def _self_of(frame: FrameType) -> Any:
    """The first argument of a running method; None for other functions, whose variables are not touched."""
    code = frame.f_code
    if not (code.co_argcount and code.co_varnames[0] == "self" and code.co_flags & inspect.CO_OPTIMIZED):
        return None
    found = frame.f_locals.get("self")
    if sys.version_info < (3, 13):
        # There it is a copy that the frame keeps: it would keep the method's variables alive until the method ends.
        frame.f_locals.clear()
    return found
