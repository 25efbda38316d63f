"""Spiking transformers. Importing this package registers them with timm: ``timm.create_model("spikformer_4_384")``."""

from step_ahsar.models._base import SpikingTransformer
from step_ahsar.models._registry import list_models, model_arguments
from step_ahsar.models.qkformer import QKFormer
from step_ahsar.models.spikformer import Spikformer

__all__ = ["QKFormer", "Spikformer", "SpikingTransformer", "list_models", "model_arguments"]
