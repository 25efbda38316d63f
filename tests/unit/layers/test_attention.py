import copy

import pytest
import torch

from step_ahsar.errors import UserError
from step_ahsar.layers import MLP, Block, Blueprint, SpikingSelfAttention, TokenQKAttention

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
