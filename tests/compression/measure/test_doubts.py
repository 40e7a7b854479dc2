import numpy as np

from compression.measure.doubts import doubts


def test_classes_under_other_numbers() -> None:
    (said,) = doubts(np.array([[1, 30, 2], [1, 2, 30], [28, 1, 5]]))
    assert said.startswith("the original would be right on 88% of the samples instead of 8% were classes")
    assert "where it says 0 the label is mostly 2" in said


def test_guessing() -> None:
    (said,) = doubts(np.full((4, 4), 20))
    assert said.startswith("the original is right on 25.0% of the samples, no more often than by guessing")


def test_what_a_model_that_fits_does() -> None:
    assert doubts(np.diag([40, 40, 40]) + 5) == ()
    assert doubts(np.array([[40, 20], [20, 40]])) == ()
    assert doubts(np.zeros((3, 3), int)) == ()
