"""Finding the model that a neuron is in, while the model runs."""

import inspect

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
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module) and module is not part and any(each is part for each in module.modules()):
            outermost = module
        frame = frame.f_back
    return outermost
