import copy

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.layers import MLP, Block, Blueprint, SpikeDrivenAttention, SpikingSelfAttention, TokenQKAttention

from . import references

# layers stay in training mode: fresh weights are small, and only a norm by batch statistics makes them fire
LIVELY = Blueprint(threshold=0.2)


def spikes(*shape: int) -> torch.Tensor:
    return (torch.rand(shape) < 0.5).float()


@pytest.mark.parametrize("tokens", [3, 40])  # fewer and more than a head's channels
def test_self_attention_is_q_k_transposed_v(tokens: int) -> None:
    torch.manual_seed(0)
    attn = SpikingSelfAttention(32, 4, LIVELY, scale=0.125, qkv_bias=True)
    x = spikes(3, 2, 32, tokens)
    q, k, v = (
        layer(x).unflatten(2, (4, 8)).mT for layer in (attn.q, attn.k, attn.v)
    )  # [T, B, h, N, d], as in the paper
    product = (q @ k.mT) @ v * 0.125
    expected = attn.proj(attn.neuron(product.mT.flatten(2, 3)))
    assert torch.equal(attn(x), expected)
    assert 0 < expected.mean() < 1


def test_token_attention_masks_the_tokens_of_k() -> None:
    torch.manual_seed(0)
    attn = TokenQKAttention(32, 4, Blueprint(threshold=0.2, attn_threshold=0.5))
    x = spikes(3, 2, 32, 10)
    q, k = attn.q(x), attn.k(x).detach().clone()
    for head in range(4):
        channels = slice(8 * head, 8 * head + 8)
        mask = attn.neuron(q[:, :, channels].sum(2))  # [T, B, N]
        assert 0 < mask.mean() < 1
        k[:, :, channels] *= mask[:, :, None]
    assert torch.equal(attn(x), attn.proj(k))


def conv_norm(x: torch.Tensor, layer: torch.nn.Module, *, bias: bool) -> torch.Tensor:
    return references.normed(references.linear(x, layer.conv, bias=bias), layer.norm)  # type: ignore[arg-type]


@pytest.mark.parametrize("ndim", [1, 2])
def test_spike_driven_attention_masks_channels_of_q(ndim: int) -> None:
    """With s = N(x): m = N(sum over tokens of k * v) by head and channel, which q is multiplied by; C1(bias)-B."""
    make = Blueprint(threshold=0.2, attn_threshold=0.75, shortcut="membrane")
    attn = references.lively(SpikeDrivenAttention(8, 2, make))
    x = references.membranes(3, 2, 8, *(4, 3)[:ndim])
    s = references.lif(x, 0.2)
    q, k, v = (references.lif(conv_norm(s, layer, bias=False), 0.2) for layer in (attn.q, attn.k, attn.v))
    both = torch.zeros(3, 2, 8, dtype=x.dtype)
    for token in range(x[0, 0, 0].numel()):
        both += k.flatten(3)[..., token] * v.flatten(3)[..., token]
    mask = references.lif(both, 0.75)
    masked = q * mask.view(3, 2, 8, *[1] * ndim)
    references.same(attn(x), conv_norm(masked, attn.proj, bias=True))


@pytest.mark.parametrize("ratio", [1, 4])
def test_self_attention_on_a_stream_of_membranes(ratio: int) -> None:
    """With s = N(x): q, k, v = C1-B-N, v perhaps wider; N(q k^T v * 0.125); C1-B, which ends with a membrane."""
    make = Blueprint(threshold=0.2, attn_threshold=0.25, shortcut="membrane")
    attn = references.lively(SpikingSelfAttention(8, 2, make, proj_bias=False, value_ratio=ratio))
    x = references.membranes(3, 2, 8, 2, 5)
    s = references.lif(x, 0.2)
    q, k, v = (
        references.by_tokens(references.lif(conv_norm(s, layer, bias=False), 0.2)) for layer in (attn.q, attn.k, attn.v)
    )
    width = 4 * ratio
    assert v.shape[3] == 2 * width
    heads = [
        (q[..., 4 * h : 4 * h + 4] @ k[..., 4 * h : 4 * h + 4].mT) @ v[..., width * h : width * h + width] * 0.125
        for h in range(2)
    ]
    product = references.lif(torch.cat(heads, 3).mT, 0.25).unflatten(3, (2, 5))
    references.same(attn(x), conv_norm(product, attn.proj, bias=False))


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_the_scale_is_positive(scale: float) -> None:
    with pytest.raises(UserError, match="the scale of an attention product must be > 0, got"):
        SpikingSelfAttention(8, 2, LIVELY, scale=scale)


@pytest.mark.parametrize("kind", [SpikingSelfAttention, TokenQKAttention])
def test_folding_a_scale_equals_scaling_the_threshold(kind: type[torch.nn.Module]) -> None:
    torch.manual_seed(0)
    scaled = kind(16, 2, Blueprint(threshold=0.2, attn_threshold=0.5))
    folded = copy.deepcopy(scaled)
    scaled.neuron = Blueprint(attn_threshold=0.5 * 1.7).new_neuron_behind_attention(16)
    x = spikes(4, 2, 16, 9)
    assert not torch.equal(folded(x), scaled(x))
    folded.fold_scale(1.7)  # type: ignore[operator]
    assert torch.equal(folded(x), scaled(x))


@pytest.mark.parametrize("kind", [SpikingSelfAttention, TokenQKAttention])
@pytest.mark.parametrize("heads", [0, 3, -2])
def test_heads_must_divide_the_channels(kind: type[torch.nn.Module], heads: int) -> None:
    with pytest.raises(UserError, match=f"32 channels cannot have {heads} heads"):
        kind(32, heads, LIVELY)


def test_groups_and_thresholds() -> None:
    block = Block(SpikingSelfAttention(16, 2, Blueprint(threshold=0.6)), MLP(16, Blueprint(threshold=0.6)))
    neurons = {name: m for name, m in block.named_modules() if hasattr(m, "group")}
    assert {name: (m.group, m.threshold) for name, m in neurons.items()} == {
        "attn.q.neuron": ("attention", 0.6),
        "attn.k.neuron": ("attention", 0.6),
        "attn.v.neuron": ("attention", 0.6),
        "attn.neuron": ("attention", 0.3),
        "attn.proj.neuron": ("attention", 0.6),
        "mlp.fc1.neuron": ("mlp", 0.6),
        "mlp.fc2.neuron": ("mlp", 0.6),
    }


def test_block_adds_spikes_to_the_stream() -> None:
    torch.manual_seed(0)
    block = Block(TokenQKAttention(16, 2, LIVELY), MLP(16, LIVELY)).eval()
    x = spikes(2, 3, 16, 4, 5)
    tokens = x.flatten(3)
    tokens = tokens + block.attn(tokens)
    expected = tokens + block.mlp(tokens)
    assert torch.equal(block(x), expected.view_as(x))
    assert set(block(x).unique().tolist()) <= {0.0, 1.0, 2.0, 3.0}
