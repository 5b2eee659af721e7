"""Seeds of any size, in the form that Keras and TensorFlow take."""

from __future__ import annotations

import numpy as np


def folded(seed: int) -> int:
    """A seed from 1 to 2**30: Keras takes 32 bits, and TensorFlow's shuffle neither 0 nor 2**31 - 1."""
    return int(np.random.SeedSequence(seed).generate_state(1)[0] >> 2) + 1
