"""The activity of a regulated model, for loggers."""

from statistics import fmean

from step_ahsar.ahsar import Controller


def activity(controller: Controller) -> dict[str, float]:
    """``ahsar/rate/GROUP`` and ``ahsar/threshold_scale/GROUP``: means over the layers of each group.

    A group that was not seen in training yet has no rate.
    """
    layers = controller.layers().values()
    found = {}
    for key in ("rate", "threshold_scale"):
        for group in controller.groups:
            values = [each[key] for each in layers if each["group"] == group and each[key] is not None]
            if values:
                found[f"ahsar/{key}/{group}"] = fmean(values)
    return found
