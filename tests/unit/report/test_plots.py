"""What the plots are made of."""

from hypothesis import given
from hypothesis import strategies as st

from step_ahsar.report.figure import _shorter
from step_ahsar.report.plots import _under, pareto_front

SMALL = st.integers(0, 5)  # so that points meet


@given(st.lists(st.tuples(SMALL, SMALL)))
def test_no_point_beats_one_of_the_front_and_the_front_beats_all_others(points):
    front = pareto_front(points)

    def beats(a, b):
        return a[0] <= b[0] and a[1] >= b[1] and a != b

    assert set(front) == {point for point in points if not any(beats(other, point) for other in points)}
    assert front == sorted(set(front))


def test_labels_keep_their_digits():
    """Fault: axes of small numbers had the labels 0.00, 0.00, 0.00."""
    assert _shorter('<g><path d="M 1.2345 6.789"/><text x="1.2345">0.0015</text></g>') == (
        '<g><path d="M 1.2 6.7"/><text x="1.2">0.0015</text></g>'
    )


def test_what_was_adapted_has_a_panel_of_its_own():
    """Its clean value is that of the adapted model, if it was measured; other adapted conditions have no panel."""
    means = {"clean": 0.9, "jpeg:1": 0.6, "blur:1": 0.4, "jpeg:1+norm": 0.8, "time_steps:2+norm": 0.7}
    cell = {"mean": {"conditions": means}, "time_steps": 4}
    assert _under(cell) == {"corruption": {0.0: 0.9, 1.0: 0.5}, "corruption+norm": {1.0: 0.8}}
    means["clean+norm"] = 0.85
    assert _under(cell)["corruption+norm"] == {0.0: 0.85, 1.0: 0.8}
