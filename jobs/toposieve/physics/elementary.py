"""Circular and hyperbolic functions of whole arrays, of sums and products alone, which a compiler does side by side.

Correct to a few parts in 10¹³, enough for float32, and the same to the bit on every processor, which the C library's
are not; in a fifth of its time.
"""

from __future__ import annotations

import math

from toposieve.physics.compiled import dividing_kernel
from toposieve.physics.events import FloatArray

DOUBLINGS = 9
"""exp(x) - 1 is found at x / 2⁹, below .35 up to |x| = 175 where float32 ends, and then doubled as often."""

LARGEST_ANGLE = 1e5
"""rad; of larger ones, which nobody writes on purpose, the parts of π / 2 would not hold the turns."""

QUARTER_HIGH, QUARTER_MIDDLE, QUARTER_LOW = 1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21
"""π / 2 in parts; the first two have 33 bits, so that their products with a number of quarters are exact."""

NEAREST = 1.5 * 2.0**52
"""Added and taken away again, it leaves the nearest integer."""


@dividing_kernel
def hyperbolic(x: FloatArray, cosh: FloatArray, sinh: FloatArray) -> None:
    """Write cosh and sinh of ``x``, all (n,); a small sinh loses nothing."""
    for i in range(len(x)):
        r = abs(x[i]) * 2.0**-DOUBLINGS
        grown = 1 / 5040 + r * (1 / 40320 + r * (1 / 362880))
        grown = r * (1 + r * (1 / 2 + r * (1 / 6 + r * (1 / 24 + r * (1 / 120 + r * (1 / 720 + r * grown))))))
        for _ in range(DOUBLINGS):
            grown *= grown + 2  # exp(2x) - 1 = (exp(x) - 1)(exp(x) + 1)
        inverse = 1 / (1 + grown)
        cosh[i] = 1 + grown * grown * inverse / 2
        sinh[i] = math.copysign((grown + grown * inverse) / 2, x[i])


@dividing_kernel
def circular(angle: FloatArray, cos: FloatArray, sin: FloatArray) -> None:
    """Write cosine and sine of ``angle`` (rad), all (n,)."""
    for i in range(len(angle)):
        quarters = (angle[i] * (2 / math.pi) + NEAREST) - NEAREST
        r = ((angle[i] - quarters * QUARTER_HIGH) - quarters * QUARTER_MIDDLE) - quarters * QUARTER_LOW
        q = r * r
        s = r * (1 - q * (1 / 6 - q * (1 / 120 - q * (1 / 5040 - q * (1 / 362880 - q * (1 / 39916800))))))
        c = 1 - q * (1 / 2 - q * (1 / 24 - q * (1 / 720 - q * (1 / 40320 - q * (1 / 3628800 - q / 479001600)))))
        quadrant = quarters - 4 * math.floor(quarters * 0.25)
        odd = (quadrant == 1) | (quadrant == 3)
        cosine, sine = (s if odd else c), (c if odd else s)
        cos[i] = -cosine if (quadrant == 1) | (quadrant == 2) else cosine
        sin[i] = -sine if quadrant >= 2 else sine
    for i in range(len(angle)):
        if not abs(angle[i]) <= LARGEST_ANGLE:
            cos[i], sin[i] = math.cos(angle[i]), math.sin(angle[i])
