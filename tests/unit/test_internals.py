"""Each private part of torch, timm and accelerate in use: if one is gone or means something else, it fails here."""

import ast
import logging
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import step_ahsar
from step_ahsar import internals

ROOT = Path(step_ahsar.__file__).parent


def private(file: Path, own: set[str]) -> list[str]:
    """Private names in a file that the package does not define itself: attributes, and modules that are imported."""
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute) and node.attr[0] == "_" and node.attr[:2] != "__" and node.attr not in own:
            found.append(f"{file.name}:{node.lineno}: {ast.unparse(node)}")
        if isinstance(node, ast.ImportFrom) and not str(node.module).startswith(("__future__", "step_ahsar")):
            found += [f"{file.name}:{node.lineno}: {node.module}" for part in node.module.split(".") if part[0] == "_"]
    return found


def test_no_other_file_uses_private_parts():
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in ROOT.rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)} - {"_apply"}
    own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own.add("_exit")  # of os: documented, in spite of its name
    files = [file for file in ROOT.rglob("*.py") if file.name != "internals.py"]
    assert [found for file in files for found in private(file, own)] == []
    assert len(private(ROOT / "internals.py", own)) > 10  # the search finds them


def test_accelerate_takes_another_precision_when_it_has_forgotten_the_first():
    from accelerate import Accelerator

    internals.forget_precision()
    Accelerator(cpu=True, mixed_precision="no")
    with pytest.raises(ValueError, match="already been initialized"):
        Accelerator(cpu=True, mixed_precision="bf16")
    internals.forget_precision()
    assert Accelerator(cpu=True, mixed_precision="bf16").mixed_precision == "bf16"
    internals.forget_precision()


def test_precision_is_kept_when_a_model_is_cast_and_moved():
    class Counter(internals.KeepsPrecision):
        precise = ("exact", "seen", "nothing")

        def __init__(self):
            super().__init__()
            self.register_buffer("exact", torch.full((), 1 / 3))
            self.register_buffer("coarse", torch.full((), 1 / 3))
            self.seen, self.nothing = torch.zeros(2), None

    model = nn.Sequential(Counter()).half()
    assert (model[0].exact.dtype, model[0].coarse.dtype, model[0].seen.dtype) == (
        torch.float32,
        torch.float16,
        torch.float32,
    )
    moved = nn.Sequential(Counter()).to("meta")
    assert moved[0].exact.is_meta
    assert moved[0].seen.is_meta
    assert nn.Sequential(moved).to_empty(device="cpu")[0][0].exact.device.type == "cpu"


def test_the_backward_pass_is_noticed():
    seen = []
    x = torch.ones(3, requires_grad=True)
    y = x * 2
    y.register_hook(lambda _: seen.append(internals.in_backward()))
    assert not internals.in_backward()
    y.sum().backward()
    assert seen == [True]
    assert not internals.in_backward()


def test_forward_hooks_are_noticed():
    module = nn.Identity()
    for register in (module.register_forward_hook, module.register_forward_pre_hook):
        assert not internals.has_forward_hooks(module)
        handle = register(lambda *_: None)
        assert internals.has_forward_hooks(module)
        handle.remove()
    assert not internals.has_forward_hooks(module)


def test_tensors_are_copied_together():
    targets, sources = [torch.zeros(()), torch.zeros(2)], [torch.tensor(3.0), torch.tensor([1.0, 2.0])]
    internals.copy_all(targets, sources)
    assert [t.tolist() for t in targets] == [3.0, [1.0, 2.0]]


def test_batch_statistics_are_batch_norms_own():
    x = torch.randn(6, 4, 5)
    ours, theirs = nn.BatchNorm1d(4, momentum=0.3), nn.BatchNorm1d(4, momentum=0.3)
    mean, var = internals.batch_statistics(x, ours)
    theirs(x)
    assert torch.equal(ours.running_mean, theirs.running_mean)
    assert torch.equal(ours.running_var, theirs.running_var)
    torch.testing.assert_close(mean, x.mean((0, 2)))
    torch.testing.assert_close(var, x.var((0, 2), unbiased=False))


@pytest.mark.parametrize("dynamic", [True, False])
def test_sizes_are_marked_for_the_compiler(dynamic):
    compiled, sizes = torch.compile(lambda x: x * x.shape[0], backend="eager", fullgraph=True), (4, 6, 9)
    torch._dynamo.utils.counters.clear()
    for size in sizes:
        x = torch.ones(size)
        internals.mark_size(x, 0, dynamic)
        assert compiled(x).tolist() == [size] * size
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == (1 if dynamic else len(sizes))
    torch.compiler.reset()


def test_the_compilers_errors_are_told_from_those_of_the_code():
    def graph_break(x):
        print("not in a graph")
        return x

    with pytest.raises(Exception, match="print") as found:
        torch.compile(graph_break, backend="eager", fullgraph=True)(torch.ones(1))
    assert internals.is_compiler_error(found.value)
    assert not internals.is_compiler_error(RuntimeError("of the code"))


def test_instruction_sets_are_taken_untested_unless_the_user_has_decided():
    from torch._inductor import config, cpu_vec_isa

    assert config.cpp.vec_isa_ok is None
    assert internals.untested_instruction_sets() == {"cpp.vec_isa_ok": True}
    with config.patch({"cpp.vec_isa_ok": False}):
        assert internals.untested_instruction_sets() == {}
    cpu_vec_isa.valid_vec_isa_list()
    internals.forget_instruction_sets()
    assert cpu_vec_isa.valid_vec_isa_list.cache_info().currsize == 0


def test_a_compiled_model_holds_the_model():
    model = nn.Linear(2, 2)
    assert internals.uncompiled(torch.compile(model)) is internals.uncompiled(model) is model


def test_the_compiler_is_loaded_without_a_warning_about_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = []
    handler = logging.Handler()
    handler.emit = said.append
    logger = logging.getLogger("torch.utils.cpp_extension")
    logger.addHandler(handler)

    def load(module):
        logger.warning("No CUDA runtime is found, using CUDA_HOME='/usr/local/cuda'")

    monkeypatch.setattr(internals, "import_module", load)
    try:
        internals.load_compiler()
        assert said == []
        load("")
        assert len(said) == 1  # and later warnings are heard
    finally:
        logger.removeHandler(handler)


def test_timm_reads_the_indices_of_levels():
    assert internals.take_indices(4, None) == ([0, 1, 2, 3], 3)
    assert internals.take_indices(4, 2) == ([2, 3], 3)
    assert internals.take_indices(4, [0, 2]) == ([0, 2], 2)


def test_the_sets_of_torchvision_that_timm_opens():
    assert {"cifar10", "cifar100", "mnist", "fashion_mnist"} <= set(internals.torchvision_sets())


def test_the_hub_can_be_left_alone(tmp_path):
    datasets = pytest.importorskip("datasets", reason="comes with the extra hf")
    before = datasets.config.HF_HUB_OFFLINE
    with internals.hub_offline(True), pytest.raises(ConnectionError, match=r"Couldn't reach 'me/mine'.*Offline"):
        datasets.load_dataset("me/mine", cache_dir=str(tmp_path))
    assert before == datasets.config.HF_HUB_OFFLINE


def test_audio_files_are_listed_without_a_decoder():
    datasets = pytest.importorskip("datasets", reason="comes with the extra hf")
    before = datasets.Audio.encode_example
    with internals.audio_files_as_paths():
        assert datasets.Audio().encode_example(Path("a.wav")) == {"bytes": None, "path": "a.wav"}
    assert datasets.Audio.encode_example is before


@pytest.mark.parametrize("without_gradients", [torch.no_grad, torch.inference_mode])
def test_operators_are_told_as_the_simple_ones_that_they_are_made_of(without_gradients):
    told = []
    watch = internals.OperatorWatch(lambda name, args, out: told.append(name))
    x = torch.rand(2, 3, 4)
    with without_gradients():
        x @ x.mT
        watch.start()
        watch.start()
        F.conv1d(x, torch.rand(5, 3, 1))
        torch.einsum("bij,bkj->bik", x, x)
        F.linear(x[0], torch.rand(2, 4), torch.rand(2))
        watch.stop()
        watch.stop()
        x @ x.mT
    products = [name for name in told if name in ("aten::convolution", "aten::bmm", "aten::addmm", "aten::mm")]
    assert products == ["aten::convolution", "aten::bmm", "aten::addmm"]
    assert not {"aten::matmul", "aten::einsum", "aten::linear", "aten::conv1d"} & set(told)


def test_repeated_work_is_not_told():
    told = []
    watch = internals.OperatorWatch(lambda name, args, out: told.append(name))
    one = torch.ones(1)
    watch.start()
    with internals.unwatched():
        one + 1
        watch.start()  # has no effect in here
        one + 1
        with internals.unwatched():
            one + 1
        one + 1
    one.neg()
    watch.stop()
    with internals.unwatched():
        one + 1
    one + 1
    assert told == ["aten::neg"]


def test_compiling_is_told():
    def mark(x):
        return x + 1 if internals.is_compiling() else x

    x = torch.zeros(2)
    assert mark(x).tolist() == [0, 0]
    assert torch.compile(mark, backend="eager", fullgraph=True)(x).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("release", "compiles"), [("2.2.2+cu121", False), ("2.8.0", False), ("2.9.0", True), ("2.14.1", True)]
)
def test_old_releases_run_uncompiled(release, compiles, monkeypatch):
    monkeypatch.setattr(torch, "__version__", release)
    assert internals.can_compile() == compiles
