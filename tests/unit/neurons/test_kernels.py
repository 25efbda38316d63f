"""The fused passes against their definition, an unrolled loop under autograd; compiled against eager."""

import itertools

import pytest
import torch

from step_ahsar.integrations.step import AHSARNode
from step_ahsar.neurons import create_neuron, equations
from step_ahsar.neurons.kernels import UNROLL, Dynamics, compiling, multi_step
from step_ahsar.neurons.kernels.multi_step import _plain

STEPS = {
    "if": (equations.if_step, {"threshold": 1.0}),
    "lif": (equations.lif_step, {"threshold": 0.7, "tau": 3.0}),
    "plif": (equations.plif_step, {"threshold": 1.0, "w": -0.5}),
}


def run(function, dynamics, x, params, state=None, keep_state=False):
    """Spikes, count, last state and gradients of x, of every parameter and of the state."""
    x = x.clone().requires_grad_()
    params = {k: torch.tensor(v, dtype=x.dtype, requires_grad=True) for k, v in params.items()}
    state = None if state is None else tuple(v.clone().requires_grad_() for v in state)
    alpha = torch.tensor(4.0, dtype=x.dtype)
    spikes, count, last = function(dynamics, x, params, alpha, state, keep_state)
    generator = torch.Generator().manual_seed(1)
    loss = sum((y * torch.randn(y.shape, generator=generator, dtype=y.dtype)).sum() for y in (spikes, *last))
    wanted = [x, *params.values(), *(state or ())]
    return [spikes, count, *last, *torch.autograd.grad(loss, wanted)]


def close(got, expected, tolerance):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("detach", [True, False])
@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("time_steps", [1, 2, 9, UNROLL, 2 * UNROLL + 3])
def test_fused_equals_definition(name, reset, detach, time_steps):
    step, params = STEPS[name]
    dynamics = Dynamics(step, (0.0,), "sigmoid", reset, detach)
    x = torch.randn(time_steps, 3, 5, dtype=torch.float64) * 2
    args = (dynamics, x, params)
    close(run(multi_step, *args), run(_plain, *args), 1e-12)
    state = (torch.randn(3, 5, dtype=torch.float64),)
    close(run(multi_step, *args, state, True), run(_plain, *args, state, True), 1e-12)


@pytest.mark.parametrize("by_channel", [False, True])
@pytest.mark.parametrize("space", [(5,), (3, 4)])
@pytest.mark.parametrize("time_steps", [3, UNROLL + 3])
def test_channels_that_are_last_in_memory_stay_there(time_steps, space, by_channel):
    dynamics = Dynamics(equations.lif_step, (0.0,), "sigmoid", "hard", True)
    tau = torch.linspace(2, 3, 6, dtype=torch.float64)[None, :, None] if by_channel else 2.5
    params = {"threshold": torch.tensor(0.7, dtype=torch.float64), "tau": torch.as_tensor(tau, dtype=torch.float64)}
    x = torch.randn(time_steps, 2, 6, *space, dtype=torch.float64) * 2
    state = torch.randn(2, 6, *space, dtype=torch.float64)

    def run(x, state):
        x, state = x.clone().requires_grad_(), state.clone().requires_grad_()
        own = {name: value.clone().requires_grad_() for name, value in params.items()}
        spikes, count, last = multi_step(dynamics, x, own, torch.tensor(4.0, dtype=torch.float64), (state,), True)
        weight = torch.arange(spikes.numel(), dtype=torch.float64).sin().view(spikes.shape)
        found = torch.autograd.grad((spikes * weight).sum() + last[0].sum(), [x, state, *own.values()])
        return spikes, count, *last, *found

    turned = run(x.movedim(2, -1).contiguous().movedim(-1, 2), state.movedim(1, -1).contiguous().movedim(-1, 1))
    close(turned, run(x, state), 1e-12)
    assert turned[0].movedim(2, -1).is_contiguous()
    if time_steps <= UNROLL:
        assert turned[3].movedim(2, -1).is_contiguous()


def test_count_is_the_number_of_spikes():
    dynamics = Dynamics(equations.lif_step, (0.0,), "atan", "hard", True)
    params = {"threshold": torch.tensor(0.5), "tau": torch.tensor(2.0)}
    spikes, count, _ = multi_step(dynamics, torch.randn(2 * UNROLL + 1, 4, 6), params, torch.tensor(2.0))
    assert count == spikes.sum()
    assert not count.requires_grad


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_integrates_in_fp32(dtype):
    x = (torch.randn(4, 2, 50) * 2).to(dtype)
    for name in ("lif", "plif"):
        neuron = create_neuron(name, threshold=0.3, tau=3.0)
        spikes = neuron(x)
        assert spikes.dtype == dtype
        assert torch.equal(spikes.float(), neuron(x.float()))


def test_expanded_gradient_and_strided_input():
    neuron = create_neuron("lif")
    x = torch.randn(4, 6, 5, 7).transpose(1, 3)
    dense, strided = x.clone(memory_format=torch.contiguous_format).requires_grad_(), x.clone().requires_grad_()
    neuron(dense).mean().backward()
    neuron(strided).mean().backward()
    assert torch.equal(dense.grad, strided.grad)


needs_compiler = pytest.mark.skipif(
    not compiling._compiler_available("cpu"), reason="no C++ compiler: there is nothing to compare"
)


@pytest.fixture
def compiled(monkeypatch):
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "1")
    compiling._compiled.cache_clear()
    yield
    compiling._compiled.cache_clear()


@needs_compiler
@pytest.mark.parametrize("name", STEPS)
def test_compiled_equals_eager(name, compiled, monkeypatch):
    step, params = STEPS[name]
    dynamics = Dynamics(step, (0.0,), "sigmoid", "hard", True)
    x = torch.randn(3, 7, 33) * 2
    results = run(multi_step, dynamics, x, params)
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
    expected = run(multi_step, dynamics, x, params)
    assert torch.equal(results[0], expected[0])
    close(results, expected, 1e-5)


@needs_compiler
def test_one_graph_serves_layers_batches_and_thresholds(compiled):
    torch._dynamo.utils.counters.clear()
    graphs = []
    for shape, threshold, base in itertools.product(((2, 4, 8), (2, 3, 5, 7), (2, 9)), (0.5, 1.0), ("lif", "ahsar")):
        neuron = create_neuron(base, threshold=threshold, tau=1.5 + threshold)
        x = torch.randn(shape, requires_grad=True)
        neuron(x).sum().backward()
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
    assert graphs == [2] * len(graphs)  # forward and backward


@needs_compiler
def test_one_graph_serves_parameters_by_channel_and_time_step(compiled, monkeypatch):
    torch._dynamo.utils.counters.clear()
    for shape in ((3, 2, 4, 8), (3, 5, 6, 2, 3), (3, 3, 7, 4)):
        neuron, x = create_neuron("glif", time_steps=3, channels=shape[2]), torch.randn(shape, requires_grad=True)
        results = []
        for compile_it in "10":
            monkeypatch.setenv("STEP_AHSAR_COMPILE", compile_it)
            spikes = neuron(x)
            results.append([spikes, *torch.autograd.grad(spikes.sum(), [x, *neuron.parameters()])])
        close(*results, 1e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 2  # forward and backward


@needs_compiler
def test_a_broken_compiler_is_said_once_and_survived(compiled, monkeypatch):
    def broken(*_):
        raise torch._dynamo.exc.TorchDynamoException("no luck")

    monkeypatch.setattr(compiling, "_compiled", lambda *_: broken)
    monkeypatch.setattr(compiling, "_broken", set())
    monkeypatch.setattr(compiling, "_failed_untested", [])
    monkeypatch.setattr(compiling._compiled, "cache_clear", lambda: None, raising=False)
    x = torch.randn(2, 3, 4)
    with pytest.warns(UserWarning, match="uncompiled on cpu.*no luck"):
        spikes = create_neuron("lif")(x)
    monkeypatch.setenv("STEP_AHSAR_COMPILE", "0")
    assert torch.equal(spikes, create_neuron("lif")(x))


@needs_compiler
def test_inside_a_compiled_model(compiled):
    """torch.compile over a model: the same numbers, and moving thresholds never recompile."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(6, 8), create_neuron("ahsar", group="mlp"))
    whole = torch.compile(model, fullgraph=True)
    x = torch.randn(2, 5, 6)
    neuron = model[1]
    expected = model(x)
    neuron.clear_observed()
    assert torch.equal(whole(x), expected)
    assert torch.equal(neuron.observed, torch.tensor([expected.sum().item(), expected.numel()]))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for scale in (0.5, 0.7, 2.0):
            neuron.threshold_scale.fill_(scale)
            assert torch.equal(whole(x), model(x))


@needs_compiler
def test_a_compiler_older_than_the_cpu_gets_a_second_chance(compiled, monkeypatch):
    """At first instruction sets are not tested; after a failure they are, and the neuron does not run uncompiled."""
    working, tries = compiling._compiled, []

    def refuses_once(*key):
        tries.append(bool(compiling._failed_untested))
        if len(tries) == 1:
            raise torch._dynamo.exc.TorchDynamoException("unknown flag -mamx-fp16")
        return working(*key)

    refuses_once.cache_clear = working.cache_clear
    monkeypatch.setattr(compiling, "_failed_untested", [])
    monkeypatch.setattr(compiling, "_broken", set())
    monkeypatch.setattr(compiling, "_compiled", refuses_once)
    create_neuron("lif")(torch.randn(2, 3, 4))
    assert tries == [False, True]
    assert not compiling._broken


@needs_compiler
def test_the_users_own_compilations_keep_inductors_settings(compiled):
    """Instruction sets that were not tested are used for the neurons' graphs alone."""
    from torch._inductor import config, cpu_vec_isa

    before = config.cpp.vec_isa_ok
    create_neuron("lif")(torch.randn(2, 3, 4))
    assert config.cpp.vec_isa_ok is before
    assert cpu_vec_isa.valid_vec_isa_list.cache_info().currsize == 0


@pytest.mark.parametrize("name", ["lif", "glif"])
def test_second_derivatives_are_refused(name):
    """Backward passes are recomputed by hand, so a second derivative would silently be wrong."""
    sizes = {"time_steps": 3} if name == "glif" else {}
    x = torch.randn(3, 2, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(create_neuron(name, **sizes)(x).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivatives"):
        gradient.square().sum().backward()


def test_the_compiler_is_loaded_before_it_is_used(monkeypatch):
    """Fault: on machines without a GPU, torch said at each first compilation that no CUDA runtime was found."""
    order = []
    monkeypatch.setattr(compiling.internals, "load_compiler", lambda: order.append("loaded"))
    monkeypatch.setattr(compiling.torch, "compile", lambda graph, **_: order.append("compiled") or graph)
    dynamics = Dynamics(equations.lif_step, (0.0,), "sigmoid", "hard", detach_reset=True)
    compiling._compiled.__wrapped__(lambda *_: None, (dynamics,), 4, torch.float32, "cpu")
    assert order == ["loaded", "compiled"]


class Spike(torch.autograd.Function):
    """A step whose derivative, that of sigmoid(4 u), can be differentiated."""

    @staticmethod
    def forward(ctx, u):
        ctx.save_for_backward(u)
        return (u >= 0).to(u.dtype)

    @staticmethod
    def backward(ctx, grad):
        y = torch.sigmoid(4 * ctx.saved_tensors[0])
        return grad * 4 * y * (1 - y)


def lif_by_hand(x, mem_detach=False):
    v, spikes = torch.zeros_like(x[0]), []
    for now in x:
        v = v.detach() if mem_detach else v
        v = v + (now - v) / 2
        spikes.append(Spike.apply(v - 1))
        v = v * (1 - spikes[-1].detach())
    return torch.stack(spikes)


def penalised(neuron):
    """The gradient of a gradient penalty for the weight in front of a neuron."""
    generator = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((3, 3), (4, 2, 3)))
    weight, x = weight.requires_grad_(), x.requires_grad_()
    (gradient,) = torch.autograd.grad(neuron(2 * x @ weight).sum(), x, create_graph=True)
    return torch.autograd.grad(gradient.square().sum(), weight)[0]


@pytest.mark.parametrize("backend", ["braincog", "sinabs", "snntorch", "spikingjelly"])
def test_second_derivatives_of_other_libraries_are_right(backend):
    """Fault: on sinabs they were silently wrong."""
    pytest.importorskip(backend)
    torch.testing.assert_close(penalised(create_neuron("lif", backend).double()), penalised(lif_by_hand))


def test_second_derivatives_with_cut_gradients_are_right():
    """Fault: as the detached membranes, so was the derivative of the surrogate."""
    node = AHSARNode(step=4, mem_detach=True).double()
    found = penalised(lambda x: node(x.flatten(0, 1)).view_as(x))
    torch.testing.assert_close(found, penalised(lambda x: lif_by_hand(x, mem_detach=True)))


def test_compiled_models_have_no_second_derivatives():
    """It is torch that refuses them."""
    torch.compiler.reset()
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), create_neuron("lif"))
    x = torch.randn(4, 2, 3, requires_grad=True)
    out = torch.compile(model, backend="aot_eager")(x)
    (gradient,) = torch.autograd.grad(out.sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="double backward"):
        gradient.square().sum().backward()
