import pytest

from step_ahsar.progress import followed, told, work


@pytest.fixture
def heard():
    """What is told in the test."""
    said = []
    with told(lambda what, share: said.append((what, share))):
        yield said


def test_items_are_done_when_the_next_is_asked_for(heard):
    assert list(followed("reading", "abcd")) == list("abcd")
    assert list(followed("hashing", iter("ab"), 2)) == list("ab")
    assert heard == [
        *(("reading", share) for share in (0, 0.25, 0.5, 0.75, 1)),
        *(("hashing", share) for share in (0, 0.5, 1)),
    ]


def test_work_that_ends_early_has_ended(heard):
    for _ in followed("looking", range(10)):
        break

    def fail():
        for _ in followed("reading", range(4)):
            raise ValueError("broken")

    def fail_in_a_part():
        with work("measuring", 2) as part:
            part("")
            list(followed("", range(2)))
            raise ValueError("broken")

    for failing in (fail, fail_in_a_part):
        with pytest.raises(ValueError, match="broken"):
            failing()
    assert [each for each in heard if each[1] == 1] == [("looking", 1), ("reading", 1), ("measuring", 1)]


def test_work_in_a_part_is_a_share_of_it(heard):
    with work("condition", 4) as begin:
        for name in ("clean", "noise", "blur", "fog"):
            begin(name)
            with work("", 2) as step:
                step("adapting")
                list(followed("", range(2)))
                step("")
                list(followed("batches", range(2)))
    shares = [share for _, share in heard]
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)
    # The second of four parts, the first of its two steps, the first of two batches: 1/4 + 1/4 * (0 + 1/2 * 1/2)
    assert ("condition 2/4, noise, adapting", 0.3125) in heard
    assert ("condition 3/4, blur, batches", 0.5 + 0.25 * 0.75) in heard


def test_more_parts_than_were_thought_are_not_more_than_all(heard):
    with work("trial", 2) as begin:
        for _ in range(4):
            begin("")
    assert [share for _, share in heard] == [0, 0, 0.5, 1]


def test_nobody_listens_after_the_block_or_without_one():
    said = []
    with told(lambda *each: said.append(each)):
        pass
    with work("a", 1) as part:
        part("b")
        assert list(followed("c", iter("xy"))) == ["x", "y"]  # whose number need not be known
    assert said == []
