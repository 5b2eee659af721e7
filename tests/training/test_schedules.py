import math

import pytest
import tensorflow as tf

from toposieve.config import TrainingConfig
from toposieve.training.schedules import learning_rate


def rates(steps: list[int], **options: object) -> list[float]:
    """At some steps of a run of 6 epochs with 10 steps each, from 1."""
    rate = learning_rate(TrainingConfig(learning_rate=1.0, epochs=6, **options), 10)
    return [float(rate(tf.constant(step, tf.int64))) for step in steps]


def test_a_constant_rate_is_a_number() -> None:
    assert learning_rate(TrainingConfig(learning_rate=0.5), 10) == 0.5


def test_the_published_rate_goes_in_steps_between_epochs() -> None:
    expected = [1.0, 1.0, 0.4, 0.4, 0.2, 0.2]
    assert rates([0, 29, 30, 49, 50, 59], learning_rate_schedule="steps") == pytest.approx(expected)
    assert rates([9, 10], learning_rate_schedule="steps", learning_rate_steps={1: 0.1}) == pytest.approx([1.0, 0.1])


def test_a_cosine_ends_at_nothing() -> None:
    expected = [1.0, (1 + math.cos(math.pi / 3)) / 2, 0.5, 0.0]
    assert rates([0, 20, 30, 60], learning_rate_schedule="cosine") == pytest.approx(expected, abs=1e-6)


def test_a_warm_up_rises_to_the_rate() -> None:
    assert rates([0, 1, 3, 4, 20], warmup_steps=4) == pytest.approx([0.25, 0.5, 1.0, 1.0, 1.0])
    assert rates([3, 30], warmup_steps=8, learning_rate_schedule="steps") == pytest.approx([0.5, 0.4])
