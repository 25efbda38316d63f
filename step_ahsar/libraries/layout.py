"""How the parts of this package's models are called in other libraries' models of the same architecture.

``step_ahsar/libraries/<library>/layouts.py`` describes a library's models in ``LAYOUTS``, a :class:`ModelLayouts`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from step_ahsar.errors import UserError, unknown
from step_ahsar.layers import SpikingConv, SpikingSelfAttention
from step_ahsar.libraries import list_libraries, load_part
from step_ahsar.models import SpikingTransformer
from step_ahsar.neurons import SpikingNeuron


@dataclass(frozen=True)
class Link:
    """A convolution with its norm and its neuron, in this package's model and in the other library's.

    Args:
        ours: paths of :class:`SpikingConv` layers here; several if the other model joins their channels in one layer.
        conv: path of the convolution or linear layer there.
        norm: path of the norm there.
        neuron: path of the neuron there; None if the layer has none.
        bias: whether the convolution there has a bias.
        axes: number of axes of size 1 at the end of the weight there (linear 0, Conv1d 1, Conv2d 2); None if the weight
            has the same shape as here.
    """

    ours: tuple[str, ...]
    conv: str
    norm: str
    neuron: str | None
    bias: bool = False
    axes: int | None = None


@dataclass(frozen=True)
class Layout:
    """Another library's model.

    Args:
        links: all layers with weights, except the head, whose keys are the same.
        apart: paths here of the neurons that belong to no convolution (behind the attention's product, on the
            residual stream, or a second one that reads what another one reads), by their paths there.
    """

    links: list[Link] = field(default_factory=list)
    apart: dict[str, str] = field(default_factory=dict)

    def neurons(self) -> Iterator[tuple[str, str]]:
        """Path here and path there of every neuron."""
        for link in self.links:
            if link.neuron is not None:
                for path in link.ours:
                    yield f"{path}.neuron", link.neuron
        yield from ((here, there) for there, here in self.apart.items())


def _nothing(neuron: SpikingNeuron, there: str) -> dict[str, Tensor]:
    return {}


@dataclass(frozen=True)
class ModelLayouts:
    """The models of a library.

    Args:
        models: for each class of this package's models a function that fills in the layout.
        neurons: names of the neurons that the library's models can have.
        attributes: a function of a neuron here and its path there, which gives the attributes there that no state dict
            holds, by their paths. It raises UserError for options that the library's models do not have.
        state: a function of a neuron here and its path there, which gives the neuron's entries in the state dict there.
    """

    models: Mapping[type[nn.Module], Callable[[Any, Layout], None]]
    neurons: tuple[str, ...]
    attributes: Callable[[SpikingNeuron, str], dict[str, Any]]
    state: Callable[[SpikingNeuron, str], dict[str, Tensor]] = _nothing


def list_layouts() -> list[str]:
    """Names of the libraries whose layouts are known."""
    return list_libraries("layouts")


def layouts_of(library: str) -> ModelLayouts:
    """The layouts of a library. Raises UserError if none are known."""
    layouts = load_part(library, "layouts")
    if layouts is None:
        raise unknown("layout", library, list_layouts())
    return layouts.LAYOUTS


def layout_of(model: nn.Module, library: str) -> Layout:
    """How the parts of ``model`` are called in the model of ``library``. Raises UserError if it has no such model."""
    known = layouts_of(library).models
    fill_in = next((known[cls] for cls in type(model).__mro__ if cls in known), None)
    if fill_in is None:
        names = ", ".join(sorted(each.__name__ for each in known))
        raise UserError(f"no layout of {library!r} is known for {type(model).__name__}; known: {names}")
    if isinstance(model, SpikingTransformer) and (model.stem != "conv" or model.blueprint.attention != "own"):
        raise UserError(f"{library!r} has no model without its own stem and attention")
    layout = Layout()
    fill_in(model, layout)
    return layout


# -- checks for layouts ------------------------------------------------------------------------------------------------


def check_images(model: Any, library: str) -> None:
    """Raises UserError for a model of sequences."""
    if model.ndim != 2:
        raise UserError(f"the models of {library!r} take images, not sequences")


def check_spike_shortcuts(model: Any, library: str) -> None:
    """Raises UserError for a model with membrane shortcuts."""
    if model.blueprint.membrane_shortcut:
        raise UserError(f"{library}'s {type(model).__name__} has spike shortcuts, not membrane shortcuts")


def check_pools(model: nn.Module, library: str, before: bool) -> None:
    """Raises UserError unless every layer pools before its neuron, or after it."""
    for name, module in model.named_modules():
        if isinstance(module, SpikingConv) and module.pool is not None and module.pool_first != before:
            there, here = ("before", "after") if before else ("after", "before")
            raise UserError(
                f"{library}'s model pools {there} the neuron, {name!r} {here} it; build with pool_first={before} (in a "
                f"config: model.args.pool_first: {str(before).lower()})"
            )


def check_scales(model: nn.Module, library: str) -> None:
    """Raises UserError unless every self-attention has the scale 0.125 of the other libraries' models."""
    for name, module in model.named_modules():
        if isinstance(module, SpikingSelfAttention) and module.scale != 0.125:
            raise UserError(f"{library}'s attention has the scale 0.125, {name!r} has {module.scale:g}")
