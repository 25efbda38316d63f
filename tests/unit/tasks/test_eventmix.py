"""EventMix."""

import pytest
import torch

from step_ahsar.tasks import eventmix
from step_ahsar.tasks.eventmix import event_mix

T, B, P, H, W = 4, 6, 2, 8, 10


def batch(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.poisson(torch.rand(T, B, P, H, W, generator=generator) * 3, generator=generator), torch.arange(B) % 3


@pytest.mark.parametrize("seed", range(5))
def test_each_pixel_comes_from_the_sample_or_from_its_partner_and_labels_weigh_as_events(seed):
    # samples that can be told apart: sample b has values b + 1
    frames = torch.arange(1.0, B + 1).view(1, B, 1, 1, 1).expand(T, B, P, H, W)
    labels = torch.arange(B)
    mixed, probs = event_mix(frames, labels, B, torch.Generator().manual_seed(seed))
    assert mixed.shape == frames.shape
    torch.testing.assert_close(probs.sum(-1), torch.ones(B))
    for b in range(B):
        there = mixed[:, b].unique().tolist()
        assert len(there) <= 2
        own = mixed[:, b] == b + 1
        assert (own == own[:, :1]).all()  # polarities stay together
        for value in there:
            share = mixed[:, b][mixed[:, b] == value].sum() / mixed[:, b].sum()
            torch.testing.assert_close(probs[b, int(value) - 1], share)


def test_the_mask_is_one_ellipsoid_whose_share_is_uniform():
    generator = torch.Generator().manual_seed(0)
    shares = torch.tensor([eventmix._mask((3, 7, 9), generator).float().mean() for _ in range(2000)])
    assert abs(shares.mean() - 0.5) < 0.03
    assert abs(shares.std() - 12**-0.5) < 0.02
    mask = eventmix._mask((1, 50, 60), torch.Generator().manual_seed(4))[0]
    for line in (*~mask, *~mask.T):  # convex: each row and column meets it in one run
        runs = line.int().diff().abs().sum() + line[0].int() + line[-1].int()
        assert runs in (0, 2)


def test_probabilities_are_mixed_as_they_are():
    frames, _ = batch()
    soft = torch.rand(B, 3).softmax(-1)
    probs = event_mix(frames, soft, 3, torch.Generator().manual_seed(1))[1]
    hard = event_mix(frames, torch.arange(B), B, torch.Generator().manual_seed(1))[1]
    torch.testing.assert_close(probs, hard @ soft)


def test_it_draws_from_torchs_own_generator():
    frames, labels = batch()
    torch.manual_seed(7)
    one = event_mix(frames, labels, 3)
    torch.manual_seed(7)
    again = event_mix(frames, labels, 3)
    assert torch.equal(one[0], again[0])
    assert torch.equal(one[1], again[1])
    assert not torch.equal(one[0], event_mix(frames, labels, 3)[0])
    assert torch.equal(frames, batch()[0])


def test_samples_without_events_keep_their_labels():
    labels = torch.arange(B)
    mixed, probs = event_mix(torch.zeros(T, B, P, H, W), labels, B)
    assert not mixed.any()
    assert torch.equal(probs, torch.eye(B))


def test_one_sample_stays_as_it_is():
    frames = batch()[0][:, :1]
    mixed, probs = event_mix(frames, torch.tensor([2]), 3)
    assert torch.equal(mixed, frames)
    torch.testing.assert_close(probs, torch.tensor([[0.0, 0.0, 1.0]]))
