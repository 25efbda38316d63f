"""What the plots are made of."""

from hypothesis import given
from hypothesis import strategies as st

from step_ahsar.report.figure import _shorter
from step_ahsar.report.plots import pareto_front

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
