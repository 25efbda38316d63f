"""From a series to a model's input, by hand arithmetic."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from step_ahsar.data.sequences.layout import fit_length, lay_out, positions

SERIES = torch.arange(1.0, 11.0).reshape(2, 5)  # 1 2 3 4 5 | 6 7 8 9 10


def test_tokens_are_the_samples():
    assert lay_out(SERIES, "tokens", 4) is SERIES
    assert positions(2, 5, "tokens", 4) == (2, 5)


def test_a_length_is_got_by_cutting_or_by_zeros():
    assert fit_length(SERIES, None, "cut") is SERIES
    assert fit_length(SERIES, 7, "cut").tolist() == [[1, 2, 3, 4, 5, 0, 0], [6, 7, 8, 9, 10, 0, 0]]
    assert fit_length(SERIES, 2, "cut").tolist() == [[1, 2], [6, 7]]


def test_a_length_is_got_by_resampling():
    assert fit_length(SERIES, 5, "resample") is SERIES
    # middles of the new samples, in the old ones: 0.75, 3.25 of 0.5, ..., 4.5
    assert fit_length(SERIES, 2, "resample").tolist() == [[1.75, 4.25], [6.75, 9.25]]
    line = torch.linspace(0, 1, 50)[None]
    torch.testing.assert_close(
        fit_length(line, 200, "resample")[0, 2:-2], torch.linspace(0, 1, 200)[2:-2], atol=0.01, rtol=0
    )


def test_in_time_each_step_shows_its_chunk_of_each_channel():
    laid = lay_out(SERIES, "time", 2)  # K = 3, with one zero at the end
    assert laid.tolist() == [[[1, 2, 3, 6, 7, 8]], [[4, 5, 0, 9, 10, 0]]]


def test_more_steps_than_samples_end_silent():
    assert lay_out(SERIES, "time", 7)[:, 0].tolist() == [[1, 6], [2, 7], [3, 8], [4, 9], [5, 10], [0, 0], [0, 0]]


@given(
    channels=st.integers(1, 4),
    length=st.integers(1, 30),
    steps=st.integers(1, 9),
    axis=st.sampled_from(["tokens", "time"]),
)
def test_positions_tells_the_shape_and_no_sample_is_lost(channels, length, steps, axis):
    series = torch.arange(1.0, channels * length + 1).reshape(channels, length)
    laid = lay_out(series, axis, steps)
    shape = positions(channels, length, axis, steps)
    assert tuple(laid.shape) == (shape if axis == "tokens" else (steps, *shape))
    assert sorted(laid[laid != 0].tolist()) == series.flatten().tolist()
