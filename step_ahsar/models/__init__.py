"""Spiking transformers. Importing this package registers them with timm: ``timm.create_model("spikformer_4_384")``."""

from step_ahsar.models._base import SpikingTransformer
from step_ahsar.models._registry import list_models, model_arguments, register_family
from step_ahsar.models.espikeformer import ESpikeFormer
from step_ahsar.models.maxformer import MaxFormer
from step_ahsar.models.metaspikeformer import MetaSpikeFormer
from step_ahsar.models.qkformer import QKFormer
from step_ahsar.models.qsd import QSDTransformer
from step_ahsar.models.sdt import SpikeDrivenTransformer
from step_ahsar.models.semm import SEMMSpikformer
from step_ahsar.models.sglformer import SGLFormer
from step_ahsar.models.spikformer import Spikformer
from step_ahsar.models.spikingformer import Spikingformer
from step_ahsar.models.spikingresformer import SpikingResformer
from step_ahsar.models.swformer import SWformer
from step_ahsar.models.tim import TIMSpikformer
from step_ahsar.plugins import load_plugins

__all__ = [
    "ESpikeFormer",
    "MaxFormer",
    "MetaSpikeFormer",
    "QKFormer",
    "QSDTransformer",
    "SEMMSpikformer",
    "SGLFormer",
    "SWformer",
    "SpikeDrivenTransformer",
    "Spikformer",
    "SpikingResformer",
    "SpikingTransformer",
    "Spikingformer",
    "TIMSpikformer",
    "list_models",
    "model_arguments",
    "register_family",
]

load_plugins()  # timm's registry, where models are looked up, is not this package's
