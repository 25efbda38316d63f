"""A model of ahsar neurons regulates itself; a controller that nobody drives says so."""

import copy
import pickle
import warnings
import weakref
from typing import Any

import pytest
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch._dynamo.testing import CompileCounter

from step_ahsar.ahsar import AHSARConfig, controller_of, fold, is_regulated, regulate
from step_ahsar.errors import UserError
from step_ahsar.neurons import create_neuron
from tests.unit.ahsar.test_regulation import MyNode, net


def ahsar_net(**options) -> nn.Sequential:
    return net(create_neuron("ahsar", group="mlp", **options), create_neuron("ahsar", group="mlp", **options))


def iterate(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 3) -> None:
    for i in range(steps):
        x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(i))
        optimizer.zero_grad()
        (model(x) ** 2).sum().backward()
        optimizer.step()


def test_a_model_of_ahsar_neurons_regulates_itself():
    """Fault: without regulate it trained as a plain LIF, and is_regulated said True."""
    model, regulated = ahsar_net(threshold=20.0), ahsar_net(threshold=20.0)
    assert is_regulated(model)
    controller = regulate(regulated, auto=True)
    for each in (model, regulated):
        iterate(each, torch.optim.SGD(each.parameters(), lr=0.1))
    own = controller_of(model)
    assert own.self_made
    assert own.auto
    assert own.layers() == controller.layers()
    assert all(layer["threshold_scale"] < 1 for layer in own.layers().values())
    for each in (own, controller):
        each.release()


def test_the_outermost_module_is_the_model():
    whole = nn.ModuleDict({"backbone": ahsar_net(), "head": nn.Linear(4, 2)})
    whole.forward = lambda x: whole["head"](whole["backbone"](x))
    whole(torch.randn(2, 5, 4)).sum().backward()
    assert controller_of(whole).model is whole
    controller_of(whole).release()


def test_evaluation_leaves_it_plain():
    model = ahsar_net()
    model.eval()(torch.randn(2, 5, 4))
    with pytest.raises(UserError, match="no controller"):
        controller_of(model)
    with torch.no_grad():
        model.train()(torch.randn(2, 5, 4))  # the first half of a reentrant activation checkpoint is such a call
    assert controller_of(model).self_made


def test_a_controller_of_ones_own_is_not_doubled():
    model = ahsar_net()
    controller = regulate(model)
    iterate(model, torch.optim.SGD(model.parameters(), lr=0.1))
    assert controller_of(model) is controller
    assert controller.layers()["1"]["rate"] is None  # nobody called step()


def test_regulate_takes_over_from_a_model_that_had_begun_by_itself():
    model = ahsar_net(threshold=20.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    iterate(model, optimizer)
    own = controller_of(model)
    controller = regulate(model, config=AHSARConfig(band=(0.1, 0.2)))
    assert controller_of(model) is controller is not own
    assert all(layer["threshold_scale"] == 1 for layer in controller.layers().values())
    before = own.layers()
    iterate(model, optimizer)  # nothing drives either of them now
    assert controller.layers()["1"]["threshold_scale"] == 1
    assert {name: layer["rate"] for name, layer in before.items()} == {
        name: layer["rate"] for name, layer in own.layers().items()
    }


def trained(model: nn.Module) -> nn.Module:
    iterate(model, torch.optim.SGD(model.parameters(), lr=0.1))
    return model


def test_a_copy_regulates_itself():
    for model in (
        copy.deepcopy(ahsar_net()),
        pickle.loads(pickle.dumps(ahsar_net())),
        copy.deepcopy(ahsar_net().eval()),
    ):
        assert controller_of(trained(model.train())).self_made
        controller_of(model).release()


def test_a_released_model_regulates_itself_again():
    """Fault: it trained as a plain LIF without a word, although release() restores the model as it was."""
    model = ahsar_net(threshold=20.0)
    controller = regulate(model)
    controller.release()
    trained(model)
    assert controller_of(model).self_made
    assert all(layer["threshold_scale"] < 1 for layer in controller_of(model).layers().values())
    controller_of(model).leave()  # for good
    scales = [model[i].threshold_scale.clone() for i in (1, 3)]
    trained(model)
    assert [model[i].threshold_scale for i in (1, 3)] == scales


def test_a_folded_model_does_not_regulate_itself():
    model = trained(ahsar_net(threshold=20.0))
    for folded in (fold(model), fold(ahsar_net())):
        trained(folded.train())
        assert not is_regulated(folded)
        with pytest.raises(UserError, match="no controller"):
            controller_of(folded)
    controller_of(model).release()


def test_a_neuron_without_a_model_stays_plain():
    neuron = create_neuron("ahsar")
    neuron(torch.randn(2, 5, 4))
    with pytest.raises(UserError, match="no controller"):
        controller_of(neuron)
    model = nn.Sequential(nn.Linear(4, 4), neuron)  # and regulates itself in the model that it gets into later
    model(torch.randn(2, 5, 4))
    assert controller_of(model).self_made
    controller_of(model).release()


def test_layers_in_no_group_do_not_regulate_themselves():
    model = ahsar_net(threshold=20.0)
    regulate(model, groups={"first": "1"}, auto=True)
    trained(model)
    assert model[1].threshold_scale < 1
    assert model[3].threshold_scale == 1
    controller_of(model).release()


class Parts(nn.Module):
    """As timm's models: the two halves may be called apart."""

    def __init__(self):
        super().__init__()
        self.body, self.tail = ahsar_net(threshold=20.0), ahsar_net(threshold=20.0)

    def forward_features(self, x):
        return self.body(x)

    def forward_head(self, x):
        return self.tail(x)

    def forward(self, x):
        return self.forward_head(self.forward_features(x))


def test_halves_that_are_called_apart_have_one_controller():
    """Fault: each half got a controller of its own, and controller_of(model) raised."""
    model = Parts()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        model.forward_head(model.forward_features(torch.randn(2, 5, 4))).sum().backward()
        optimizer.step()
    assert list(controller_of(model).layers()) == ["body.1", "body.3", "tail.1", "tail.3"]
    controller_of(model).release()


@pytest.mark.parametrize("how", ["torch.compile", "model.compile", "a function"])
def test_a_compiled_model_regulates_itself(how):
    """Fault: the hook that found the model was traced, and the compiler failed."""
    torch.compiler.reset()
    model, plain = Parts(), Parts()
    kept = copy.deepcopy(model.state_dict())
    plain.load_state_dict(kept)
    counter = CompileCounter()
    compiled: Any = model
    if how == "torch.compile":
        compiled = torch.compile(model, backend=counter, fullgraph=True)
    elif how == "model.compile":
        model.compile(backend=counter, fullgraph=True)
    else:
        compiled = torch.compile(lambda x: model(x), backend=counter)
    for call, each in ((compiled, model), (plain, plain)):
        optimizer = torch.optim.SGD(each.parameters(), lr=0.1)
        for i in range(3):
            optimizer.zero_grad()
            x = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(i))
            (call(x) ** 2).sum().backward()
            optimizer.step()
    assert controller_of(compiled if isinstance(compiled, nn.Module) else model) is controller_of(model)
    assert controller_of(model).layers() == controller_of(plain).layers()
    assert all(layer["threshold_scale"] < 1 for layer in controller_of(model).layers().values())
    if how != "a function":
        assert counter.frame_count == 1  # nothing was compiled twice
    for each in (model, plain):
        controller_of(each).release()


def test_regulating_a_compiled_model_is_regulating_the_model():
    model = ahsar_net()
    controller = regulate(torch.compile(model, backend="eager"))
    assert controller.model is model
    assert list(controller.layers()) == ["1", "3"]


def test_other_models_compile_while_a_neuron_has_not_been_trained():
    """Fault: a hook on every module of the process was traced, and compiling failed."""
    torch.compiler.reset()
    model = ahsar_net()
    other = torch.compile(nn.Sequential(nn.Linear(4, 4), nn.ReLU()), backend="eager", fullgraph=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other(torch.rand(2, 4))
    model.eval()
    other(torch.rand(2, 4))


@pytest.mark.parametrize("explicit", [True, False])
def test_timms_averaged_model_and_compiling(explicit):
    """Fault: timm's order, ModelEmaV3(model), then torch.compile(model), ended in an error of the compiler."""
    torch.compiler.reset()
    model = ahsar_net(threshold=20.0)
    average = ModelEmaV3(model, decay=0.5)
    if explicit:
        regulate(model, auto=True)
    compiled = torch.compile(model, backend="eager")
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        compiled(torch.randn(2, 5, 4)).sum().backward()
        optimizer.step()
        average.update(model)
    averaged = average.module[1].threshold_scale
    assert model[1].threshold_scale < averaged < 1
    with pytest.raises(UserError, match="no controller"):
        controller_of(average.module)
    controller_of(model).release()


def test_no_hook_on_other_modules():
    from torch.nn.modules import module

    model = ahsar_net()
    model(torch.randn(2, 5, 4))
    assert not module._has_any_global_hook()
    controller_of(model).release()


# -- a controller that nobody drives -----------------------------------------------------------------------------------


def test_an_optimiser_of_copies_is_noticed():
    """Fault: with master copies of the parameters the model trained as a plain LIF without a word."""
    model = ahsar_net(threshold=20.0)
    masters = [p.detach().clone().requires_grad_() for p in model.parameters()]
    optimizer = torch.optim.SGD(masters, lr=0.1)

    def update():
        (model(torch.randn(2, 5, 4)) ** 2).sum().backward()
        for master, p in zip(masters, model.parameters(), strict=True):
            master.grad = p.grad
        optimizer.step()

    for _ in range(99):
        update()
    with pytest.warns(UserWarning, match=r"SGD made 100 steps, but it holds no parameter of the model.*controller_of"):
        update()
    for _ in range(3):
        update()
        controller_of(model).step()
    assert all(layer["threshold_scale"] < 1 for layer in controller_of(model).layers().values())
    controller_of(model).release()


def test_another_models_optimiser_is_no_reason_to_warn():
    model, other = ahsar_net(), nn.Linear(2, 2)
    both = [torch.optim.SGD(each.parameters(), lr=0.1) for each in (model, other)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(102):
            (model(torch.randn(2, 5, 4)) ** 2).sum().backward()
            for optimizer in both:
                optimizer.step()
        (model(torch.randn(2, 5, 4)) ** 2).sum().backward()  # one that no step follows
        for _ in range(102):
            both[1].step()
        for _ in range(2):  # as in adversarial training: the other model is trained through this one
            both[0].step()
            for _ in range(98):
                model(torch.randn(2, 5, 4)).sum().backward()
                both[1].step()
    controller_of(model).release()


@pytest.mark.parametrize("auto", [True, False])
def test_updates_without_an_optimiser_are_noticed(auto):
    model = net(create_neuron("lif"))
    regulate(model, auto=auto)
    for _ in range(2):
        for _ in range(99):
            model(torch.randn(2, 5, 4))
        controller_of(model).step()
    for _ in range(99):
        model(torch.randn(2, 5, 4))
    with pytest.warns(UserWarning, match=r"100 forward passes in training without a step of the controller.*step\(\)"):
        model(torch.randn(2, 5, 4))
    controller_of(model).release()


@pytest.mark.parametrize("freeze", [True, False])
def test_an_optimiser_of_a_frozen_models_head_is_no_reason_to_warn(freeze):
    model, head = ahsar_net(), nn.Linear(4, 2)
    model.requires_grad_(not freeze)
    optimizer = torch.optim.SGD(head.parameters(), lr=0.1)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(110):
            head(model(torch.randn(2, 5, 4, requires_grad=True))).sum().backward()
            optimizer.step()
    assert any("holds no parameter" in str(each.message) for each in said) != freeze
    controller_of(model).release()


# -- a model that regulates itself, in unusual surroundings ------------------------------------------------------------


class Loss(nn.Module):
    """A wrapper that is made anew for each epoch."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x):
        return (self.net(x) ** 2).sum()


def scales_of(model):
    return [module.threshold_scale.item() for module in model.modules() if hasattr(module, "threshold_scale")]


def test_regulation_goes_on_when_the_outermost_module_is_gone():
    """Fault: the controller went with the wrapper, and the model trained on with its thresholds as they were."""
    model = ahsar_net(threshold=20.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = [1.0, 1.0]
    for _ in range(3):
        loss = Loss(model)
        optimizer.zero_grad()
        loss(torch.randn(2, 5, 4)).backward()
        optimizer.step()
        now = scales_of(model)
        assert all(new < old for new, old in zip(now, before, strict=True))
        before = now
        del loss
    assert model[1].observed is None  # nobody reads it any more
    with pytest.raises(UserError, match="no controller"):
        controller_of(model)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_without_the_wrapper_regulates_itself(copied):
    loss = Loss(ahsar_net(threshold=20.0))
    trained(loss.net)
    controller_of(loss.net).end()
    loss(torch.randn(2, 5, 4))
    assert controller_of(loss).model is loss
    inner = copied(loss.net)
    before = scales_of(inner)
    trained(inner)
    assert controller_of(inner).model is inner
    assert all(new < old for new, old in zip(scales_of(inner), before, strict=True))
    for each in (inner, loss):
        controller_of(each).release()


def test_neurons_that_did_not_ask_stay_plain():
    """Fault: a control beside the regulated part was regulated, too."""
    model = net(create_neuron("ahsar", threshold=20.0), create_neuron("lif", threshold=20.0), MyNode())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trained(model)
    assert list(controller_of(model).layers()) == ["1"]
    assert model[1].threshold_scale < 1
    assert model[3].threshold_scale is None
    controller_of(model).release()


def test_a_part_that_had_run_alone_joins_the_model_with_its_scales():
    model = nn.Sequential(ahsar_net(threshold=20.0), ahsar_net(threshold=20.0))
    trained(model[0])
    learnt = scales_of(model[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(torch.randn(2, 5, 4))
        assert controller_of(model).model is model
        assert scales_of(model[0]) == learnt
        iterate(model, torch.optim.SGD(model.parameters(), lr=0.1), steps=12)
    controller_of(model).release()


def test_a_part_under_a_controller_of_its_own_is_left_alone():
    model = nn.Sequential(ahsar_net(threshold=20.0), ahsar_net(threshold=20.0))
    own = regulate(model[0])
    trained(model)
    assert controller_of(model[0]) is own
    assert list(controller_of(model[1]).layers()) == ["1.1", "1.3"]
    for controller in (own, controller_of(model[1])):
        controller.release()


def test_a_first_call_in_inference_mode():
    """Fault: what the controller changes in place had been made in inference mode, and training failed."""
    model = ahsar_net(threshold=20.0)
    with torch.inference_mode():
        model(torch.randn(2, 5, 4))
    trained(model)
    assert all(scale < 1 for scale in scales_of(model))
    controller_of(model).release()
    with torch.inference_mode():
        controller = regulate(model)
    (model(torch.randn(2, 5, 4)) ** 2).sum().backward()
    controller.step()
    controller.release()


@pytest.mark.parametrize("how", ["torch.compile", "model.compile", "a function"])
def test_a_model_that_was_compiled_in_evaluation_regulates_itself(how):
    """Fault: the graph of the first call, in eval mode, was used in training."""
    torch.compiler.reset()
    model: Any = ahsar_net(threshold=20.0)
    compiled = model
    if how == "torch.compile":
        compiled = torch.compile(model, backend="eager")
    elif how == "model.compile":
        model.compile(backend="eager")
    else:
        compiled = torch.compile(lambda x: model(x), backend="eager")
    model.eval()
    compiled(torch.randn(2, 5, 4))
    model.train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(3):
        (compiled(torch.randn(2, 5, 4)) ** 2).sum().backward()
        optimizer.step()
    assert all(scale < 1 for scale in scales_of(model))
    controller_of(model).release()


def test_neurons_outside_of_a_running_module_are_noticed():
    """Fault: in a list of modules that a function runs through, they were plain LIF without a word."""
    layers = nn.ModuleList(ahsar_net().children())

    def run():
        x = torch.randn(2, 5, 4)
        for layer in layers:
            x = layer(x)

    for _ in range(99):
        run()
    with pytest.warns(UserWarning, match=r"ran 100 times in training, but in no module that is running.*ModuleList"):
        run()
    controller = regulate(layers, auto=True)
    run()
    assert controller.layers()
    controller.release()


class Probe:
    """Something that is deleted while the method that made it goes on."""


class Method:
    def run(self, model):
        probe = Probe()
        gone = weakref.ref(probe)
        model(torch.randn(2, 5, 4))
        del probe
        return gone() is None


class Proxy:
    """Its class cannot be asked for, as that of an object that is not there yet."""

    @property
    def __class__(self):
        raise RuntimeError("not there yet")


def test_the_search_for_the_model_leaves_other_peoples_frames_alone():
    """Fault: it kept the variables of every calling function alive, and asked any object that is called self."""

    def call(self, model):
        return model(torch.randn(2, 5, 4))

    assert Method().run(ahsar_net())
    model = ahsar_net()
    call(Proxy(), model)
    assert controller_of(model).model is model


def test_a_controller_may_be_released_while_it_is_paused():
    controller = regulate(ahsar_net_kept := ahsar_net())
    with controller.paused():
        controller.release()
    assert ahsar_net_kept[1].observed is None
