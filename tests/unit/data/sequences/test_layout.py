"""From a series to a model's input, by hand arithmetic."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from step_ahsar.data.sequences.layout import lay_out, positions
from step_ahsar.errors import UserError

SERIES = torch.arange(1.0, 11.0).reshape(2, 5)  # 1 2 3 4 5 | 6 7 8 9 10


def test_tokens_are_the_samples_with_zeros_at_the_end_or_cut():
    torch.testing.assert_close(lay_out(SERIES, "tokens", 4, None), SERIES)
    assert lay_out(SERIES, "tokens", 4, 7).tolist() == [[1, 2, 3, 4, 5, 0, 0], [6, 7, 8, 9, 10, 0, 0]]
    assert lay_out(SERIES, "tokens", 4, 2).tolist() == [[1, 2], [6, 7]]


def test_in_time_each_step_shows_its_chunk_of_each_channel():
    laid = lay_out(SERIES, "time", 2, None)  # K = 3, with one zero at the end
    assert laid.tolist() == [[[1, 2, 3, 6, 7, 8]], [[4, 5, 0, 9, 10, 0]]]
    assert lay_out(SERIES, "time", 2, 8).tolist() == [[[1, 2, 3, 6, 7, 8, 0, 0]], [[4, 5, 0, 9, 10, 0, 0, 0]]]


def test_more_steps_than_samples_end_silent():
    assert lay_out(SERIES, "time", 7, None)[:, 0].tolist() == [[1, 6], [2, 7], [3, 8], [4, 9], [5, 10], [0, 0], [0, 0]]


def test_fewer_positions_than_it_takes():
    message = "data.img_size is 5, but 2 channels of 5 samples over 2 time steps take 6 positions at each"
    with pytest.raises(UserError, match=message):
        lay_out(SERIES, "time", 2, 5)
    with pytest.raises(UserError, match="give at least 6, or leave it out"):
        positions(2, 5, "time", 2, 5)


@given(
    channels=st.integers(1, 4),
    length=st.integers(1, 30),
    steps=st.integers(1, 9),
    axis=st.sampled_from(["tokens", "time"]),
    extra=st.one_of(st.none(), st.integers(0, 5)),
)
def test_positions_tells_the_shape_and_no_sample_is_lost(channels, length, steps, axis, extra):
    series = torch.arange(1.0, channels * length + 1).reshape(channels, length)
    wanted = None if extra is None else positions(channels, length, axis, steps)[1] + extra
    laid = lay_out(series, axis, steps, wanted)
    shape = positions(channels, length, axis, steps, wanted)
    assert tuple(laid.shape) == (shape if axis == "tokens" else (steps, *shape))
    assert sorted(laid[laid != 0].tolist()) == series.flatten().tolist()
