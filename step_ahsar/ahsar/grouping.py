"""Which layers are regulated together."""

import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase

from torch import nn

from step_ahsar.errors import UserError, shortened
from step_ahsar.neurons import SpikingNeuron

Patterns = Mapping[str, str | Sequence[str]]
Grouping = Patterns | Callable[[str, nn.Module], str | None]

# The words by which a module belongs to a group: endings of words, and whole words. They are looked for in the names
# and classes of modules. The innermost module with such a word decides. "head" counts only if no other word is found,
# because attention has heads, too.
_WORDS = {
    "attention": (("attn", "attention", "ssa", "sdsa", "qka"), ("q", "k", "v", "qk", "qkv")),
    "mlp": (("mlp", "ffn"), ("fc", "feedforward")),
    "stem": (("embed", "embedding"), ("stem", "patch", "sps", "tokenizer", "downsample")),
    "head": ((), ("head", "classifier")),
}


def group_neurons(model: nn.Module, neurons: Mapping[str, nn.Module], groups: Grouping | None) -> dict[str, list[str]]:
    """Names of the neurons in each group, in the order of the model; see :func:`step_ahsar.ahsar.regulate`.

    Args:
        model: the model that holds the neurons.
        neurons: the neurons, by their names in the model.
        groups: name patterns per group, a callable ``(name, neuron) -> group or None``, or None for
            :func:`default_group`.

    Raises:
        UserError: a pattern matches no neuron, a neuron is in two groups, or no neuron is in a group.
    """
    if groups is None:
        groups_of = {name: [group] for name, group in _defaults(model, neurons).items()}
    elif callable(groups):
        groups_of = {name: [group] if (group := groups(name, n)) else [] for name, n in neurons.items()}
    else:
        groups_of = {name: _matching(name, groups) for name in neurons}
        for group in groups:
            if not any(group in of for of in groups_of.values()):
                raise UserError(
                    f"group {group!r}: {groups[group]!r} matches no spiking neuron; the model has {shortened(neurons)}"
                )
    members: dict[str, list[str]] = {}
    for name, of in groups_of.items():
        if len(of) > 1:
            raise UserError(f"neuron {name!r} is in more than one group: {', '.join(of)}; narrow their patterns")
        if of:
            members.setdefault(of[0], []).append(name)
    if not members:
        raise UserError(f"no spiking neuron was put in a group; the model has {shortened(neurons)}")
    return members


def default_group(model: nn.Module, name: str) -> str | None:
    """The group that follows from a neuron's place in the model: "attention", "mlp", "stem", "head" or None.

    The names and classes of the modules around the neuron, from the inside outwards, are split into words ("q_lif" into
    q and lif, "SSABlock" into ssa and block). The first word that belongs to a group decides. Words for "head" count
    only if no other word belongs to a group.

    >>> model = nn.Sequential(nn.ModuleDict({"attn": nn.ModuleDict({"fc1_lif": nn.Identity(), "lif": nn.Identity()})}))
    >>> default_group(model, "0.attn.fc1_lif"), default_group(model, "0.attn.lif")
    ('mlp', 'attention')
    """
    parts = name.split(".") if name else []
    found = []
    for depth in range(len(parts), 0, -1):
        around = model.get_submodule(".".join(parts[: depth - 1]))
        for text in (parts[depth - 1], type(around).__name__ if depth > 1 else ""):
            for group, (endings, words) in _WORDS.items():
                if any(word.endswith(endings) or word in words for word in words_of(text)):
                    found.append(group)
    return next((group for group in found if group != "head"), "head" if found else None)


def _defaults(model: nn.Module, neurons: Mapping[str, nn.Module]) -> dict[str, str]:
    """A neuron's own group, else the group of its place; "all" in a model without attention."""
    own = {name: n.group if isinstance(n, SpikingNeuron) else None for name, n in neurons.items()}
    found = {name: group or default_group(model, name) for name, group in own.items()}
    if "attention" in found.values():
        return {name: group or "other" for name, group in found.items()}
    return {name: own[name] or "all" for name in neurons}


def words_of(text: str) -> list[str]:
    """The words of a name, in small letters.

    >>> words_of("attn_lif1"), words_of("SSABlock")
    (['attn', 'lif'], ['ssa', 'block'])
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", text)]


def _matching(name: str, groups: Patterns) -> list[str]:
    return [
        group
        for group, patterns in groups.items()
        if any(fnmatchcase(name, p) for p in ([patterns] if isinstance(patterns, str) else patterns))
    ]
