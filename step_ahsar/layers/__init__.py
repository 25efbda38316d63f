"""Layers of spiking transformers. A factory makes their neurons; no layer depends on a class of neurons.

Notation: T time steps, B batch, C channels, *S space (H, W pixels or L samples), N tokens (H*W or L), h heads,
d channels per head.
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
