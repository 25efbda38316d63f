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
from step_ahsar.layers.block import MLP, Block, ConvMLP, DepthwiseMixer, Residual, SeparableConv
from step_ahsar.layers.blueprint import ATTENTIONS, SHORTCUTS, Blueprint
from step_ahsar.layers.conv import GainNeuron, PlainConv, SpikingConv, SpikingLinear, stream_neuron
from step_ahsar.layers.dual_attention import DualSpikeAttention, GroupwiseMLP
from step_ahsar.layers.embedding import (
    ConvStem,
    DeformedShortcutEmbedding,
    Downsampling,
    EmbeddingPlan,
    PatchEmbedding,
    PatchSplitting,
)
from step_ahsar.layers.experts import ExpertsAttention, ExpertsMLP
from step_ahsar.layers.local import LearnedPool, LocalModule, ParityAttention
from step_ahsar.layers.quantise import LayerScale
from step_ahsar.layers.repconv import RepConv, SpikingRepConv
from step_ahsar.layers.sync_norm import sync_batch_norms
from step_ahsar.layers.temporal import TemporalAttention, TemporalInteraction
from step_ahsar.layers.wavelet import WaveletMixer

__all__ = [
    "ATTENTIONS",
    "MLP",
    "SHORTCUTS",
    "Block",
    "Blueprint",
    "ConvMLP",
    "ConvStem",
    "DeformedShortcutEmbedding",
    "DepthwiseMixer",
    "Downsampling",
    "DualSpikeAttention",
    "EmbeddingPlan",
    "ExpertsAttention",
    "ExpertsMLP",
    "GainNeuron",
    "GroupwiseMLP",
    "LayerScale",
    "LearnedPool",
    "LocalModule",
    "ParityAttention",
    "PatchEmbedding",
    "PatchSplitting",
    "PlainConv",
    "RepConv",
    "Residual",
    "SeparableConv",
    "SpikeDrivenAttention",
    "SpikingAttention",
    "SpikingConv",
    "SpikingLinear",
    "SpikingRepConv",
    "SpikingSelfAttention",
    "TemporalAttention",
    "TemporalInteraction",
    "TokenQKAttention",
    "WaveletMixer",
    "stream_neuron",
    "sync_batch_norms",
]
