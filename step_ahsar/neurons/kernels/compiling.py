"""Compiled graphs of the fused passes: one for each pass, neuron and number of time steps.

A graph serves all sizes, batch sizes and thresholds.
"""

import functools
import os
import shutil
import warnings
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from step_ahsar import internals


def compiler_available(device: torch.device) -> bool:
    """Whether the fused passes can be compiled for ``device``. STEP_AHSAR_COMPILE=0 switches compiling off."""
    return _compiler_available(device.type) and os.environ.get("STEP_AHSAR_COMPILE", "1") != "0"


@functools.cache
def _compiler_available(device_type: str) -> bool:
    if not internals.can_compile():
        return False
    if device_type == "cpu":
        return shutil.which(os.environ.get("CXX", "g++")) is not None or shutil.which("clang++") is not None
    if device_type == "cuda":
        from importlib.util import find_spec

        return find_spec("triton") is not None
    return False


_broken: set[str] = set()  # device types on which compiling has failed; not tried there again


def run_pass(
    function: Callable[..., Any], static: tuple[Hashable, ...], x: Tensor, *args: Any, compiled: bool = True
) -> tuple[Tensor, ...]:
    """Returns ``function(*static, x, *args)`` for ``x: [T, ...]``, compiled if it is to be and can be."""
    device = x.device
    if not compiled or device.type in _broken or not compiler_available(device):
        return function(*static, x, *args)
    try:
        with internals.unwatched():  # else the operators of the graph would run one by one
            return _compiled(function, static, len(x), x.dtype, device.type)(x, *args)
    except Exception as error:
        if not internals.is_compiler_error(error):
            raise
        if device.type == "cpu" and _test_instruction_sets():
            return run_pass(function, static, x, *args)
        _broken.add(device.type)
        reason = str(error).strip().splitlines()[0]
        warnings.warn(f"spiking neurons run uncompiled on {device.type}, which is slower: {reason}", stacklevel=2)
        return function(*static, x, *args)


@functools.cache
def _compiled(function: Callable[..., Any], static: tuple[Hashable, ...], *key: Hashable) -> Callable[..., Any]:
    """One compiled graph for each ``static`` and ``key``. The key lists what Dynamo would otherwise recompile for."""

    def graph(*args: Any) -> Any:
        return function(*static, *args)

    internals.load_compiler()
    options = {} if _failed_untested else internals.untested_instruction_sets()
    # Dynamo limits the number of recompilations of a code object, so each graph gets a code object of its own.
    graph.__code__ = graph.__code__.replace()
    compiled, general = torch.compile(graph, fullgraph=True, options=options or None), False

    def call(x: Tensor, *args: Any) -> Any:
        nonlocal general
        if general:
            return compiled(x, *args)
        # Dynamo specialises on sizes of 1. A graph traced with larger sizes, marked as dynamic, serves all sizes.
        _mark_sizes((x, args), x.ndim)
        try:
            out = compiled(x, *args)
        finally:
            if options:
                internals.forget_instruction_sets()
        general = 1 not in x.shape[1:]
        return out

    return call


_failed_untested: list[bool] = []  # not empty once compiling failed without testing the CPU's instruction sets


def _test_instruction_sets() -> bool:
    """Called when compiling has failed: from now on Inductor tests the CPU's instruction sets before it uses them.

    The compiler may be older than the CPU and not know an instruction set that the CPU has.

    Returns:
        Whether compiling should be tried again; False if the instruction sets had been tested already.
    """
    if _failed_untested or not internals.untested_instruction_sets():
        return False
    _failed_untested.append(True)
    _compiled.cache_clear()
    return True


def _mark_sizes(arg: Any, over_time: int) -> None:
    """Marks the sizes of all tensors in ``arg`` as varying, except T, which is unrolled.

    T is the first axis of the tensors that have ``over_time`` axes.
    """
    if isinstance(arg, Tensor):
        for dim, size in enumerate(arg.shape):
            if dim == 0 and arg.ndim == over_time:
                internals.mark_size(arg, dim, dynamic=False)
            elif size > 1:
                internals.mark_size(arg, dim, dynamic=True)
    elif arg is not None:
        for item in arg.values() if isinstance(arg, dict) else arg:
            _mark_sizes(item, over_time)
