import time

import pytest
import torch

from step_ahsar.bench.timing import Row, interleaved, ratio

CPU = torch.device("cpu")


def test_every_round_begins_with_another_contender():
    order = []
    steps = {name: lambda name=name: (order.append(name), time.sleep(0.011)) for name in "abc"}
    times = interleaved("", steps, 4, CPU)
    warmup, rounds = order[:9], order[9:]
    assert warmup == list("aaabbbccc")
    assert "".join(rounds) == "abc" + "bca" + "cab" + "abc"
    assert all(len(values) == 4 for values in times.wall.values())


def test_a_step_that_is_too_short_for_the_clock_is_repeated_and_the_time_of_one_is_told():
    calls = []
    times = interleaved("", {"short": lambda: (calls.append(0), time.sleep(0.002))}, 1, CPU)
    assert 3 + 3 <= len(calls) <= 3 + 5  # three to warm up, then 10 ms of 2 ms each
    assert 2 <= times.wall["short"][0] < 4


def test_time_on_the_processor_is_not_that_of_waiting():
    def busy():
        until = time.process_time() + 0.02
        while time.process_time() < until:
            pass

    times = interleaved("", {"waits": lambda: time.sleep(0.02), "busy": busy}, 1, CPU)
    assert times.wall["waits"][0] >= 20
    assert times.cpu["waits"][0] < 5
    assert times.cpu["busy"][0] >= 20


def test_a_ratio_is_the_median_of_those_by_round_not_that_of_medians():
    found = ratio([1.0, 4.0, 9.0], [2.0, 2.0, 3.0])  # 0.5, 2, 3
    assert found == (2.0, None, None)


def test_the_interval_is_that_of_order_statistics():
    # of 15 values the 4th and the 12th enclose the median with 96.5 %, the 5th and the 11th with 88.2 % (binomial)
    values = [float(i) for i in range(1, 16)]
    assert ratio(values, [1.0] * 15) == (8.0, 4.0, 12.0)


def test_the_others_stand_beside_the_first_contender():
    row = Row("training", "net", "ms", {"ours": [2.0, 4.0], "theirs": [4.0, 4.0]}, {"absent": "not installed"})
    assert row.medians() == {"ours": 3.0, "theirs": 4.0}
    assert row.ratios() == {"theirs": (0.75, None, None)}
    stored = row.stored()
    assert stored["ratios"] == {"theirs": {"median": 0.75, "low": None, "high": None}}
    assert stored["skipped"] == {"absent": "not installed"}
    assert stored["values"] == {"ours": [2.0, 4.0], "theirs": [4.0, 4.0]}


def test_a_row_of_which_nothing_was_measured_is_no_error():
    assert Row("memory", "net", "MiB", {}, {"ours": "unknown"}).stored()["ratios"] == {}


@pytest.mark.parametrize("rounds", [6, 15])
def test_equal_contenders_have_a_ratio_of_1(rounds):
    assert ratio([3.0] * rounds, [3.0] * rounds) == (1.0, 1.0, 1.0)
