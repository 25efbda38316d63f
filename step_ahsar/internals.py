"""Private parts of torch, timm and accelerate that this package uses, and why no public function can be used.

No other file of the package uses private parts. tests/unit/test_internals.py tests each of these functions, so that it
fails with a release in which a private part is missing or has changed.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

# -- modules and autograd ----------------------------------------------------------------------------------------------


class KeepsPrecision(nn.Module):
    """A module that keeps some of its tensors in their dtype when the model is cast, as by ``model.half()``.

    ``to``, ``half``, ``cuda`` and the like all call ``_apply``. There is no public hook for it.

    Attributes:
        precise: names of these tensors, which may be buffers or plain attributes, or None.
    """

    precise: ClassVar[tuple[str, ...]] = ()

    def _apply(self, fn: Any, recurse: bool = True) -> "KeepsPrecision":
        before = {name: getattr(self, name) for name in self.precise}
        super()._apply(fn, recurse)
        for name, tensor in before.items():
            if tensor is not None and not tensor.is_meta:
                setattr(self, name, tensor.to(fn(tensor).device))
        return self


class OperatorWatch:
    """Tells which operators of torch run between :meth:`start` and :meth:`stop`.

    There is no public class for it; torch.utils.flop_counter, which is public, is built on the same private one.

    Args:
        ran: called after each operator with its name, such as "aten::mm", its arguments and its result. Operators that
            are made of others, such as "aten::matmul", are told as these.
    """

    def __init__(self, ran: Callable[[str, Sequence[Any], Any], None]) -> None:
        self._ran = ran
        self._mode: TorchDispatchMode | None = None

    def start(self) -> None:
        """Begins to watch. Does nothing if it does already, or inside of :func:`unwatched`."""
        if self._mode is None and not _unwatched:
            self._mode = _Dispatch(self._ran)
            self._mode.__enter__()
            _watching.append(self)

    def stop(self) -> None:
        """Ends it. Does nothing if it has ended."""
        if self._mode is not None:
            self._mode.__exit__(None, None, None)
            self._mode = None
            _watching.remove(self)


_watching: list[OperatorWatch] = []
_unwatched: list[None] = []  # an entry for each block of `unwatched`


@contextmanager
def unwatched() -> Iterator[None]:
    """Work in the block is not told to the watch that is on, if there is one: it is repeated outside of the block."""
    watches = list(_watching)
    for watch in watches:
        watch.stop()
    _unwatched.append(None)
    try:
        yield
    finally:
        _unwatched.pop()
        for watch in watches:
            watch.start()


_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd
_composite: dict[Any, bool] = {}  # whether an operator is made of others


class _Dispatch(TorchDispatchMode):
    def __init__(self, ran: Callable[[str, Sequence[Any], Any], None]) -> None:
        super().__init__()
        self._ran = ran

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _composite:
            _composite[func] = torch._C._dispatch_has_kernel_for_dispatch_key(func.name(), _COMPOSITE)
        if _composite[func]:
            with self:
                # Not decompose(), which may take another implementation, in Python, with another rounding.
                return func._op_dk(_COMPOSITE, *args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        self._ran(func._schema.name, args, out)
        return out


def in_backward() -> bool:
    """Whether a backward pass is running in this thread.

    A forward pass inside it is a recomputation (activation checkpointing), whose spikes must not be counted again.
    There is no public function for this.
    """
    return torch._C._current_graph_task_id() != -1


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether a forward hook or pre-hook is registered on ``module``.

    A fused pass in place of the module would not run them. The public functions only register and remove hooks.
    """
    return bool(module._forward_hooks or module._forward_pre_hooks)


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """``target.copy_(source)`` for every pair, in one call that does not wait for the device.

    A loop would launch one kernel for each layer.
    """
    torch._foreach_copy_(list(targets), list(sources))


# -- operators without a function in torch.nn.functional ---------------------------------------------------------------


def batch_statistics(x: Tensor, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Mean and biased variance by channel, [C], of ``x: [N, C, ...]``. Updates the running averages of ``norm``.

    PyTorch's batch norm runs the same operator, so the running averages are the same to the bit.
    """
    return torch.batch_norm_update_stats(x, norm.running_mean, norm.running_var, norm.momentum or 0.0)


def forget_precision() -> None:
    """Lets the next ``accelerate.Accelerator`` have another precision than the one before in this process.

    accelerate keeps it for the whole process and refuses another one. Runs of a comparison may differ in it.
    """
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state()


# -- the compiler ------------------------------------------------------------------------------------------------------


def mark_size(x: Tensor, dim: int, dynamic: bool) -> None:
    """Tells the compiler whether the size of ``x`` along ``dim`` varies between calls.

    ``torch.compile(dynamic=True)`` would make every size dynamic, including the number of time steps, which is
    unrolled.
    """
    (torch._dynamo.mark_dynamic if dynamic else torch._dynamo.mark_static)(x, dim)


# Whether a function is being compiled. Before torch 2.3 only a private function told.
is_compiling = torch.compiler.is_compiling if hasattr(torch.compiler, "is_compiling") else torch._utils.is_compiling

_COMPILES_FROM = (2, 9)  # the first release of torch with which compiled passes are tested


def can_compile() -> bool:
    """Whether this release of torch is one with which compiled passes are tested. Older ones run them uncompiled."""
    return tuple(int(part) for part in torch.__version__.split(".")[:2]) >= _COMPILES_FROM


def is_compiler_error(error: BaseException) -> bool:
    """Whether an error comes from compiling and not from the compiled code.

    The compiler's errors have no public base class.
    """
    from torch._dynamo.exc import TorchDynamoException
    from torch._inductor.exc import InductorError

    return isinstance(error, (TorchDynamoException, InductorError))


def uncompiled(model: nn.Module) -> nn.Module:
    """The model itself, where ``model`` is what ``torch.compile(model)`` returned.

    The names of the wrapper's modules and parameters begin with "_orig_mod.", the wrapper's attribute for the model.
    """
    return getattr(model, "_orig_mod", model)


def untested_instruction_sets() -> dict[str, Any]:
    """Options of ``torch.compile`` with which Inductor does not test the CPU's instruction sets.

    Inductor tests each of them by compiling and running a program, a third of the time of a cold start. Empty if the
    user has set this option. The options apply only to the function that is compiled with them.
    """
    from torch._inductor import config

    return {"cpp.vec_isa_ok": True} if config.cpp.vec_isa_ok is None else {}


def forget_instruction_sets() -> None:
    """Lets Inductor determine the CPU's instruction sets anew at its next compilation.

    Inductor keeps its findings for the whole process. Untested ones must not be used for the user's own compilations.
    """
    from torch._inductor import cpu_vec_isa

    cpu_vec_isa.valid_vec_isa_list.cache_clear()


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    log = logging.getLogger(logger)
    disabled, log.disabled = log.disabled, True
    try:
        yield
    finally:
        log.disabled = disabled


def load_compiler() -> None:
    """Imports a module that compiling needs, without its warning about CUDA.

    On a machine with a CUDA toolkit but without a GPU the import logs "No CUDA runtime is found". Users who compile for
    the CPU take this for an error.
    """
    if torch.cuda.is_available():
        return
    with _silent("torch.utils.cpp_extension"):
        import_module("torch.utils.cpp_extension")


# -- timm and data sets ------------------------------------------------------------------------------------------------


def take_indices(levels: int, indices: int | list[int] | None) -> tuple[list[int], int]:
    """The feature levels that the argument ``indices`` of ``forward_intermediates`` selects, and the last of them.

    timm's models call this function; timm does not export it.
    """
    from timm.models._features import feature_take_indices

    return feature_take_indices(levels, indices)


def torchvision_sets() -> list[str]:
    """Names of torchvision's sets that ``timm.data.create_dataset`` opens as ``torch/<name>``.

    timm itself reports an unknown name only when the set is opened.
    """
    from timm.data import dataset_factory

    known = set(dataset_factory._TORCH_BASIC_DS)
    further = {"qmnist": "has_qmnist", "imagenet": "has_imagenet", "places365": "has_places365"}
    known |= {name for name, flag in further.items() if getattr(dataset_factory, flag, False)}
    return sorted(known)


@contextmanager
def hub_offline(offline: bool) -> Iterator[None]:
    """Inside of it, the package `datasets` takes sets of the hub from its cache alone, and asks nothing of the network.

    Its public switch is an environment variable, which it reads when it is imported.
    """
    from datasets import config

    before = config.HF_HUB_OFFLINE
    config.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        config.HF_HUB_OFFLINE = before


@contextmanager
def audio_files_as_paths() -> Iterator[None]:
    """Inside of it, the package `datasets` lists audio files without torchcodec.

    It imports torchcodec even where it notes nothing but the path of a file, and offers no way around it.
    """
    from datasets import Audio

    encode = Audio.encode_example

    def noted(self: Any, value: Any) -> Any:
        return {"bytes": None, "path": str(value)} if isinstance(value, (str, Path)) else encode(self, value)

    Audio.encode_example = noted
    try:
        yield
    finally:
        Audio.encode_example = encode
