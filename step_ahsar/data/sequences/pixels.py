"""Images as series of pixels, row by row: sequential MNIST, permuted or not, and sequential CIFAR-10."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from step_ahsar.config import DataConfig
from step_ahsar.data.common.faults import DataFault, Faults
from step_ahsar.data.common.files import existing_root, not_found, read_npz
from step_ahsar.data.common.fingerprint import fingerprint_arrays
from step_ahsar.data.common.registry import DatasetSpec, Splits, register_dataset
from step_ahsar.data.sequences.arrays import check_integers, check_keys, outside, take

_SEED = 92916
_SOURCES = {
    "MNIST": "https://ossci-datasets.s3.amazonaws.com/mnist",
    "CIFAR10": "https://www.cs.toronto.edu/~kriz/cifar.html",
}
_FOLDERS = {"MNIST": "MNIST/raw", "CIFAR10": "cifar-10-batches-py"}
_NPZ = ("x_train", "y_train", "x_test", "y_test")


class PixelSeries:
    """Pixels in memory, uint8 [N, C, L]. A sample is float32 [C, L] in [0, 1]."""

    def __init__(self, pixels: NDArray[np.uint8], labels: NDArray[Any]) -> None:
        self.pixels, self.labels = pixels, labels

    def __getitem__(self, index: int) -> tuple[NDArray[np.float32], int]:
        return self.pixels[index].astype(np.float32) / 255, int(self.labels[index])

    def __len__(self) -> int:
        return len(self.labels)


def permutation(length: int) -> NDArray[np.int64]:
    """The random order of a permuted pixel sequence: step i shows pixel ``permutation(length)[i]``.

    For 784 pixels it is the order in the code of Wisdom et al., "Full-Capacity Unitary Recurrent Neural Networks"
    (NeurIPS 2016, arXiv 1611.00035; github.com/stwisdom/urnn, mnist.py), which is widely used for psMNIST. NumPy
    guarantees that the stream of RandomState never changes.
    """
    return np.random.RandomState(_SEED).permutation(length)


def pixel_splits(
    arrays: list[Any], shape: tuple[int, ...], classes: tuple[str, ...], permuted: bool, where: Path, config: DataConfig
) -> Splits:
    """Makes splits of x_train, y_train, x_test, y_test: images uint8 [N, H, W] or [N, H, W, C], and labels [N]."""
    kept: list[Any] = []
    faults = Faults(config)
    for (pixels, labels), part in zip((arrays[:2], arrays[2:]), ("train", "test"), strict=True):
        if pixels.dtype != np.uint8 or pixels.shape[1:] != shape:
            wanted, got = ", ".join(map(str, shape)), ", ".join(map(str, pixels.shape))
            raise DataFault(where, f"x_{part} must be uint8 [N, {wanted}], got {pixels.dtype} [{got}]")
        check_integers(labels, f"y_{part}", where, len(pixels))
        index = faults.without(outside(labels, len(classes), f"y_{part}"), len(labels), where)
        series = pixels[index].reshape(len(index), shape[0] * shape[1], -1).transpose(0, 2, 1)
        if permuted:
            series = series[..., permutation(series.shape[-1])]
        kept += [np.ascontiguousarray(series), labels[index].astype(np.int64)]
    return Splits(
        train=PixelSeries(*kept[:2]),
        test=PixelSeries(*kept[2:]),
        classes=classes,
        fingerprint=fingerprint_arrays(kept),
        skipped=tuple(faults.found),
    )


def _from_torchvision(config: DataConfig, kind: str) -> tuple[list[Any], Path]:
    from torchvision import datasets

    holds, source = f"{_FOLDERS[kind]} or an .npz with {', '.join(_NPZ)}", _SOURCES[kind]
    if config.root is None or not config.download:
        existing_root(config, f"{holds} (or set data.download=true to fetch it)", source)
    root = Path(str(config.root)).expanduser()
    try:
        train, test = (getattr(datasets, kind)(root, train=part, download=config.download) for part in (True, False))
    except RuntimeError as error:
        if (root / _FOLDERS[kind]).is_dir():
            tried = ", and could not be fetched" if config.download else ""
            raise DataFault(root / _FOLDERS[kind], f"incomplete or damaged{tried}; get it from {source}") from error
        raise not_found(config.model_copy(update={"download": False}), holds, source) from error
    except (OSError, ValueError, AssertionError, EOFError) as error:
        raise DataFault(root / _FOLDERS[kind], f"cannot be read or fetched: {error or type(error).__name__}") from error
    arrays = [np.asarray(array) for split in (train, test) for array in (split.data, split.targets)]
    return arrays, root / _FOLDERS[kind]


def open_pixels(
    config: DataConfig, kind: str, shape: tuple[int, ...], classes: tuple[str, ...], permuted: bool
) -> Splits:
    """MNIST or CIFAR-10 in the order of pixels, or in that of :func:`permutation`.

    Args:
        config: ``root`` is the folder of torchvision's copy, or an ``.npz`` file with ``x_train``, ``y_train``,
            ``x_test``, ``y_test``.
        kind: name of torchvision's class.
        shape: shape of an image.
        classes: names of the classes.
        permuted: permute even if ``config.sequence.permute`` is false.

    Raises:
        UserError: not found; DataFault: damaged, arrays of other shapes, labels out of range.
    """
    check_keys(config, "permute")
    path = Path(str(config.root)).expanduser()
    if path.suffix == ".npz" and path.is_file():
        arrays, where = take(read_npz(path), _NPZ, path), path
    else:
        arrays, where = _from_torchvision(config, kind)
    return pixel_splits(arrays, shape, classes, permuted or config.sequence.permute, where, config)


def _register(name: str, in_chans: int, size: int, mean: Any, std: Any, opener: Any) -> None:
    register_dataset(
        DatasetSpec(name, in_chans, size, mean, std, 10, opener, mirrors=False, modality="sequence", ndim=1)
    )


_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_mnist = partial(open_pixels, kind="MNIST", shape=(28, 28), classes=tuple("0123456789"))
_cifar10 = partial(open_pixels, kind="CIFAR10", shape=(32, 32, 3), classes=_CIFAR10, permuted=False)

# Channel statistics of the training images.
_register("smnist", 1, 784, (0.1307,), (0.3081,), partial(_mnist, permuted=False))
_register("psmnist", 1, 784, (0.1307,), (0.3081,), partial(_mnist, permuted=True))
_register("scifar10", 3, 1024, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616), _cifar10)
