"""What the folders of the zoo say of each model: counts, golden values, cards."""

import json
from typing import Any

import pytest
import timm
import torch

from step_ahsar.models import list_models
from step_ahsar.paths import zoo_dir
from tests.contract.models.zoo import ALL, FAMILIES, describe, golden_script, neurons

# Parameters of the authors' public code as measured: shared facts, which this package's models equal to the last digit.
MEASURED = {
    "spikingformer_4_256": 4_152_106,
    "spikingformer_2_384": 5_762_746,
    "spikingformer_4_384": 9_320_122,
    "spikingformer_8_384": 16_816_024,
    "spikingformer_8_512": 29_689_384,
    "spikingformer_8_768": 66_338_632,
    "spikingformer_dvs_2_256": 2_566_666,
    "sdt_8_384": 16_816_024,
    "sdt_6_512": 23_373_352,
    "sdt_8_512": 29_689_384,
    "sdt_10_512": 36_005_416,
    "sdt_8_768": 66_338_632,
    "sdt_2_512": 10_233_418,
    "sdt_dvs_2_256": 2_566_666,
    "maxformer_4_384": 6_568_282,
    "maxformer_10_384": 16_237_240,
    "maxformer_10_512": 28_653_480,
    "maxformer_10_768": 63_992_200,
    "maxformer_dvs_2_256": 1_455_626,
    "metaspikeformer_8_256": 15_112_208,
    "metaspikeformer_8_384": 31_333_864,
    "metaspikeformer_8_512": 55_350_248,
    "espikeformer_t": 2_702_048,
    "espikeformer_s": 5_105_608,
    "espikeformer_m": 10_023_112,
    "espikeformer_l": 18_987_504,
    "spikingresformer_ti": 11_180_992,
    "spikingresformer_s": 17_813_824,
    "spikingresformer_m": 35_601_472,
    "spikingresformer_l": 60_375_680,
    "spikingresformer_cifar_ti": 10_793_152,
    "tim_dvs_2_256": 2_568_746,
    "semm_4_384": 7_739_242,
    "sglformer_4_384": 8_852_874,
    "sglformer_8_384": 16_239_640,
    "sglformer_8_512": 28_658_728,
    "sglformer_8_768": 64_006_216,
    "swformer_4_384": 7_479_226,
    "swformer_6_512": 21_806_632,
    "swformer_8_512": 27_600_424,
    "swformer_dvs_2_256": 2_157_834,
}
WITH_11_CLASSES = {
    "sdt_dvs_2_256": 2_566_923,
    "maxformer_dvs_2_256": 1_455_883,
}
WITH_3_CHANNELS = {
    "spikingresformer_dvs_6_192": 2_709_830,  # the public code adds the sum of both polarities
}
WITH_100_CLASSES = {
    "spikingformer_4_384": 9_354_772,
    "sdt_2_512": 10_279_588,
    "maxformer_4_384": 6_602_932,
    "sglformer_4_384": 8_887_524,
    "spikingresformer_cifar_ti": 10_827_712,
    "swformer_4_384": 7_513_876,
}

# Published millions of parameters where the public code has more than the model, and how far the last digit may be off:
# zoo/*/CARD.md says why.
PUBLISHED = {
    "spikformer_4_384": (9.32, 0.005),
    "spikformer_8_384": (16.81, 0.01),
    "spikformer_8_512": (29.68, 0.01),
    "spikformer_8_768": (66.34, 0.005),
    "spikformer_dvs_2_256": (2.57, 0.005),
    "qkformer_4_384": (6.71, 0.005),
    "qkformer_10_384": (16.47, 0.005),
    "qkformer_10_512": (29.08, 0.005),
    "qkformer_10_768": (64.96, 0.005),
}


@pytest.mark.parametrize("name", ALL)
def test_golden(name: str) -> None:
    """After a change that is meant: python scripts/golden.py."""
    golden = json.loads((zoo_dir() / FAMILIES[name] / "golden.json").read_text())[name]
    found = describe(name)
    assert found["parameters"] == golden["parameters"]
    assert found["state_dict"] == golden["state_dict"]
    assert found.get("logits", []) == pytest.approx(golden.get("logits", []), abs=1e-3)


@pytest.mark.parametrize(("name", "published"), PUBLISHED.items())
def test_parameter_counts_are_the_published_ones(name: str, published: tuple[float, float]) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    millions, tolerance = published
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=tolerance)


@pytest.mark.parametrize(
    ("name", "options", "measured"),
    [(name, {}, count) for name, count in MEASURED.items()]
    + [(name, {"num_classes": 11}, count) for name, count in WITH_11_CLASSES.items()]
    + [(name, {"num_classes": 100}, count) for name, count in WITH_100_CLASSES.items()]
    + [(name, {"in_chans": 3}, count) for name, count in WITH_3_CHANNELS.items()],
)
def test_parameter_counts_are_those_of_the_public_code(name: str, options: dict[str, int], measured: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, **options)
    assert sum(p.numel() for p in model.parameters()) == measured


def test_counts_of_models_that_differ_from_the_public_code_on_purpose() -> None:
    def count(name: str, **options: Any) -> int:
        with torch.device("meta"):
            model = timm.create_model(name, **options)
        return sum(p.numel() for p in model.parameters())

    # QSD is Meta-SpikeFormer with layer scales; each quantised channel has a step, too.
    assert count("qsd_8_512", weight_bits=32) == MEASURED["metaspikeformer_8_512"] + 8_704
    # SEMM for ImageNet: the public code declares the norms of k and v and does not use them. They are used here.
    assert count("semm_8_512") == 27_550_088


@pytest.mark.parametrize("family", golden_script["FAMILIES"])
def test_every_model_has_its_data(family: str) -> None:
    folder = zoo_dir() / family
    assert set(json.loads((folder / "golden.json").read_text())) == set(list_models(family))
    card = (folder / "CARD.md").read_text(encoding="utf-8")
    assert all(f"`{name}`" in card for name in list_models(family))


def test_spikformer_4_384_has_33_spiking_layers() -> None:
    with torch.device("meta"):
        model = timm.create_model("spikformer_4_384")
    assert len(list(neurons(model))) == 33
