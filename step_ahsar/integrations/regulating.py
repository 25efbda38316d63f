"""What the callbacks of training libraries have in common: the controller of the model that is trained."""

from torch import nn

from step_ahsar.ahsar import AHSARConfig, Controller, regulate
from step_ahsar.ahsar.controller import controllers_of
from step_ahsar.ahsar.finding import find_layers
from step_ahsar.ahsar.grouping import Grouping
from step_ahsar.libraries.regulation import Rules


class Regulating:
    """Regulates a model, or goes on with the controller that it has.

    Args:
        config: constants of the law.
        groups: as for :func:`step_ahsar.ahsar.regulate`.
        nodes: as for :func:`step_ahsar.ahsar.regulate`.
        metric: name of a metric, higher is better, for the slow loop; None = none.

    Attributes:
        controller: the controller; None before there is a model.
    """

    def __init__(
        self,
        config: AHSARConfig | None = None,
        groups: Grouping | None = None,
        nodes: Rules | None = None,
        metric: str | None = None,
    ) -> None:
        self.config, self.groups, self.nodes, self.metric = config, groups, nodes, metric
        self.controller: Controller | None = None

    def regulate(self, model: nn.Module) -> None:
        """Puts the model under a controller, unless it is under one.

        Raises:
            UserError: it is under a controller whose constants are not those of this callback, or cannot be regulated.
        """
        found = [each for each in controllers_of(find_layers(model, self.nodes).values()) if not each.self_made]
        if len(found) == 1 and self.config in (None, found[0].config):
            self.controller = found[0]
        else:
            self.controller = regulate(model, self.groups, self.config, nodes=self.nodes)

    def regulated(self) -> Controller:
        """The controller of the model that is trained."""
        assert self.controller is not None, "there is a model before it is trained"
        return self.controller

    def step(self) -> None:
        """The fast loop, unless the controller runs it by itself (``regulate(model, auto=True)``)."""
        if not self.regulated().auto:
            self.regulated().step()

    def epoch_end(self, metric: float | None) -> None:
        """The slow loop, unless the controller runs it by itself."""
        if not self.regulated().auto:
            self.regulated().epoch_end(metric)
