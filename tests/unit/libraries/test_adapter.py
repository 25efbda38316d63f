"""What holds for every library: imported late, said clearly when missing, never by-passed, nothing kept."""

import pickle
import sys
import weakref
from importlib.util import find_spec

import pytest
import torch
from torch import nn

from step_ahsar.errors import UserError
from step_ahsar.libraries import adapter, list_libraries
from step_ahsar.neurons import create_neuron, list_neurons, neuron_kind
from step_ahsar.neurons.kernels import multi_step, normed

LIBRARIES = list_libraries()


@pytest.fixture(params=LIBRARIES)
def backend(request):
    if find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed")
    return request.param


@pytest.fixture
def every_neuron(backend):
    """For T = 4."""
    return [create_neuron(name, backend, **sizes(name)) for name in list_neurons(backend) if name != "ahsar"]


def sizes(name):
    return {"time_steps": 4} if "time_steps" in neuron_kind(name).options else {}


def test_importing_imports_no_backend(in_new_process):
    in_new_process(f"""
import sys
import step_ahsar, step_ahsar.neurons as neurons
assert not [name for name in sys.modules if name.startswith("step_ahsar.libraries")]
assert neurons.list_neurons("sinabs")
assert not {set(LIBRARIES)} & set(sys.modules)
""")


def test_a_folder_is_all_that_a_new_library_needs(in_new_process, tmp_path):
    """Its neurons are a backend, its nodes can be regulated, its models' layouts are known."""
    folder = tmp_path / "mylib"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "adapter.py").write_text("""
from step_ahsar.libraries.adapter import LibraryNeuron
from step_ahsar.neurons import torch as ours
from step_ahsar.neurons.registry import register_neuron

@register_neuron("if", backend="mylib")
class IF(LibraryNeuron, ours.IF):
    module = "mylib"

    def run(self, x):
        return (x >= self.scaled_threshold(x)).to(x)
""")
    (folder / "regulation.py").write_text("""
from step_ahsar.libraries.regulation import ScaleRule, always
NODES = {"Node": always(ScaleRule("v_th"))}
""")
    (folder / "layouts.py").write_text("""
from step_ahsar.libraries.layout import ModelLayouts
LAYOUTS = ModelLayouts(models={}, neurons=("if",), attributes=lambda neuron, there: {})
""")
    (tmp_path / "nodes_alone").mkdir()  # a folder need not hold all three modules
    (tmp_path / "nodes_alone" / "__init__.py").write_text("")
    (tmp_path / "nodes_alone" / "regulation.py").write_text("NODES = {}")
    in_new_process(f"""
import sys, torch
from torch import nn
(library := type(sys)("mylib")).__spec__ = type("Spec", (), {{}})()  # as if it were installed
sys.modules["mylib"] = library
import step_ahsar.libraries
step_ahsar.libraries.__path__.append({str(tmp_path)!r})
from step_ahsar.ahsar import regulate
from step_ahsar.libraries.layout import list_layouts
from step_ahsar.libraries.regulation import regulated_libraries
from step_ahsar.neurons import create_neuron, list_backends, list_neurons
assert "mylib" in list_backends() and list_neurons("mylib") == ["ahsar", "if"]
assert create_neuron("if", "mylib")(torch.tensor([[2.0], [0.5]])).tolist() == [[1.0], [0.0]]
assert "mylib" in list_layouts() and "mylib" in regulated_libraries()
assert "nodes_alone" in regulated_libraries()
assert "nodes_alone" not in list_backends() and "nodes_alone" not in list_layouts() and "lif" in list_neurons()

class Node(nn.Module):
    __module__, v_th = "mylib.neurons", 1.0
    def forward(self, x):
        return (x >= self.v_th).float()

model = nn.Sequential(Node())
regulate(model)
model[0].threshold_scale.fill_(0.5)
assert model(torch.tensor([[0.6]])).tolist() == [[1.0]]
""")


def test_without_the_libraries(in_new_process):
    """Neurons are listed; making one says what to install."""
    in_new_process(f"""
import sys
libraries = {LIBRARIES}
sys.modules.update(dict.fromkeys(libraries))  # None: not to be found
from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron, list_neurons
assert all("lif" in list_neurons(name) for name in libraries)
for name in libraries:
    for neuron in ("lif", "ahsar"):
        try:
            create_neuron(neuron, name)
        except UserError as error:
            message = f'backend {{name!r}} is not installed; it comes with: pip install "step-ahsar[{{name}}]"'
            assert str(error) == message, error
        else:
            raise AssertionError(name)
assert create_neuron("lif")
""")


def test_the_library_computes_the_spikes(every_neuron, monkeypatch):
    """The torch neurons, whose options the adapters have, take no part, not even in their shortcuts."""

    def forbidden(*_, **__):
        raise AssertionError("a kernel of backend 'torch' ran")

    for module in (sys.modules[multi_step.__module__], normed):
        monkeypatch.setattr(module, "run_pass", forbidden)
    x, norm = torch.randn(4, 2, 3, 5), nn.BatchNorm1d(3)
    for neuron in every_neuron:
        assert torch.equal(neuron(x, norm.train()), neuron(norm(x.flatten(0, 1)).view(x.shape)))
        with pytest.raises(UserError, match="it exists on: torch"):
            neuron.stream(x)
    for norms in ((), (norm,)):
        with pytest.raises(AssertionError, match="kernel of backend 'torch'"):
            create_neuron("lif")(x, *norms)


def test_nothing_is_kept(every_neuron):
    """Neither the graph nor the input outlives a call, nor does the state after an error in the middle of it."""
    for neuron in every_neuron:
        x = torch.randn(4, 2, 3, requires_grad=True)
        scaled = x * 1
        born = weakref.ref(scaled)
        neuron(scaled)
        del scaled
        assert born() is None, neuron
        assert not [key for key in neuron.state_dict() if key not in dict(neuron.named_parameters())]
        assert pickle.loads(pickle.dumps(neuron)).extra_repr() == neuron.extra_repr()


def test_compiles_without_recompiling_for_thresholds(backend):
    for name in {"lif", "plif", "klif", "ilif", "psn"} & {*list_neurons(backend)}:
        torch._dynamo.reset()
        model = nn.Sequential(nn.Linear(6, 8), create_neuron("ahsar", backend, base=name, **sizes(name)))
        whole = torch.compile(
            model, backend="aot_eager", fullgraph=backend != "sinabs"
        )  # which breaks the graph itself
        x = torch.randn(4, 5, 6)
        for scale in (1.0, 0.5, 0.7, 2.0):
            model[1].threshold_scale.fill_(scale)
            with torch._dynamo.config.patch(error_on_recompile=scale != 1.0):
                assert torch.equal(whole(x), model(x))


def test_half_precision_and_autocast_integrate_in_fp32(every_neuron):
    x = (torch.randn(4, 3, 200) * 2).bfloat16()
    for neuron in every_neuron:
        expected = neuron(x.float())
        spikes = neuron(x)
        assert spikes.dtype == torch.bfloat16
        assert torch.equal(spikes, expected.bfloat16())
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(neuron(x.float()), expected)


def test_making_one_draws_no_random_numbers_of_its_own(backend):
    """Models of one seed start from the same weights on every backend."""
    for name in list_neurons(backend):
        if name == "ahsar" or name not in list_neurons("torch"):
            continue
        drawn = []
        for each in ("torch", backend):
            torch.manual_seed(0)
            neuron = create_neuron(name, each, **sizes(name))
            drawn.append([*neuron.parameters(), torch.rand(3)])
        assert all(torch.equal(a, b) for a, b in zip(*drawn, strict=True)), name


def test_the_spike_function():
    u = torch.tensor([-0.5, -0.0, 0.0, 0.25], requires_grad=True)
    spikes = adapter._fire("triangle", 2.0, u)
    assert spikes.tolist() == [0, 1, 1, 1]
    (gradient,) = torch.autograd.grad(spikes.sum(), u)
    assert gradient.tolist() == [1.0, 2.0, 2.0, 1.5]
