"""Layers of spiking transformers. They hold neurons made by a factory and name no neuron class.

Notation: T time steps, B batch, C channels, *S space (H, W pixels or L samples), N tokens (H*W or L), h heads,
d channels a head.
"""

from step_ahsar.layers.attention import SpikingSelfAttention, TokenQKAttention
from step_ahsar.layers.block import MLP, Block
from step_ahsar.layers.conv import SpikingConv, SpikingLinear
from step_ahsar.layers.embedding import DeformedShortcutEmbedding, EmbeddingPlan, PatchSplitting
from step_ahsar.layers.factory import NeuronFactory

__all__ = [
    "MLP",
    "Block",
    "DeformedShortcutEmbedding",
    "EmbeddingPlan",
    "NeuronFactory",
    "PatchSplitting",
    "SpikingConv",
    "SpikingLinear",
    "SpikingSelfAttention",
    "TokenQKAttention",
]
