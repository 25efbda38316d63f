"""Layers of spiking transformers. A blueprint makes their parts; no layer depends on a class of neurons or norms.

Notation: T time steps, B batch, C channels, *S space (H, W pixels or L samples), N tokens (H*W or L), h heads,
d channels per head.
"""

from step_ahsar.layers.attention import (
    SpikeDrivenAttention,
    SpikingAttention,
    SpikingSelfAttention,
    TokenQKAttention,
)
from step_ahsar.layers.block import MLP, Block, DepthwiseMixer
from step_ahsar.layers.blueprint import Blueprint
from step_ahsar.layers.conv import SpikingConv, SpikingLinear, StreamNeuron, stream_neuron
from step_ahsar.layers.embedding import ConvStem, DeformedShortcutEmbedding, EmbeddingPlan, PatchSplitting

__all__ = [
    "MLP",
    "Block",
    "Blueprint",
    "ConvStem",
    "DeformedShortcutEmbedding",
    "DepthwiseMixer",
    "EmbeddingPlan",
    "PatchSplitting",
    "SpikeDrivenAttention",
    "SpikingAttention",
    "SpikingConv",
    "SpikingLinear",
    "SpikingSelfAttention",
    "StreamNeuron",
    "TokenQKAttention",
    "stream_neuron",
]
