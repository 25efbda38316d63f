"""Spiking transformers. Importing this registers them with timm: ``timm.create_model("spikformer_4_384", ...)``."""

from step_ahsar.models._base import SpikingTransformer
from step_ahsar.models._registry import list_models
from step_ahsar.models.convert import convert_state_dict, node_attributes, with_attention_thresholds
from step_ahsar.models.layouts import list_layouts
from step_ahsar.models.qkformer import QKFormer
from step_ahsar.models.spikformer import Spikformer

__all__ = [
    "QKFormer",
    "Spikformer",
    "SpikingTransformer",
    "convert_state_dict",
    "list_layouts",
    "list_models",
    "node_attributes",
    "with_attention_thresholds",
]
