"""Where a search looks: values of keys of the configuration of training, or of that of tree models."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from toposieve.config import SearchConfig, TrainingConfig, TreeConfig
from toposieve.models import ARCHITECTURES, TREE_MODELS

DIGITS = 10
"""Of a number that is drawn: the last ones of what NumPy calculates are another processor's own."""
Range = tuple[float, float]
"""Lowest and highest value, on a logarithmic scale."""


@dataclass(frozen=True)
class Space:
    """Values to try, and how."""

    axes: Mapping[str, Sequence[Any] | Range]
    """Key → its values, a list, or a range, a tuple."""
    epochs: tuple[int, ...]
    """Epochs after which trials are compared."""
    folds: int
    """Parts of the training split, each of which validates the rest once; 1: the validation split does."""
    kept: float
    """Share of a batch's trials that goes on after each comparison. If all do, epochs are an axis as well."""

    @property
    def is_grid(self) -> bool:
        """Whether every combination is tried, instead of so many that are drawn."""
        return not any(isinstance(axis, tuple) for axis in self.axes.values())

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs after which something is decided."""
        return self.epochs[-1:] if self.kept == 1 else self.epochs

    def grid(self) -> list[dict[str, Any]]:
        """All combinations, in order."""
        return [dict(zip(self.axes, values, strict=True)) for values in product(*self.axes.values())]


_PUBLISHED = Space(
    axes={
        "batch_size": [64, 100, 200],
        "hlf_units": [list(units) for units in product((50, 100, 150), (20, 50, 100), (10, 20, 50))],
    },
    epochs=(10, 30, 50),
    folds=5,
    kept=1,
)
"""243 candidates of arXiv:1909.10389."""

_COMMON: dict[str, Sequence[Any] | Range] = {
    "learning_rate": (3e-4, 1e-2),
    "learning_rate_schedule": ["constant", "cosine"],
    "batch_size": [128, 256],
}

_MODEL_AXES: dict[str, Sequence[Any]] = {
    "hlf_units": [[50, 20, 10], [64, 64], [64, 64, 64], [128, 128]],
    "gru_units": [32, 50, 64],
    "lstm_units": [32, 50, 64],
    "transformer_heads": [4, 8],
    "set_units": [16, 32, 64],
    "set_heads": [2, 4],
    "set_blocks": [1, 2, 3],
    "leading_particles": [64, 128],
    "joined_units": [25, 50],
    "dropout_rate": [0.0, 0.1, 0.2],
}
"""Few values: each combination of them is another graph to compile."""

_ROUNDS = [50, 100, 200, 400]
_TREE_AXES: dict[str, dict[str, Sequence[Any] | Range]] = {
    "random_forest": {"random_forest_depth": [6, 8, 10, 12]},  # deeper ones need more memory than a driver has
    "xgboost": {"xgboost_rounds": _ROUNDS, "xgboost_rate": (0.02, 0.3), "xgboost_depth": [2, 3, 4, 6, 8]},
    "lightgbm": {"lightgbm_rounds": _ROUNDS, "lightgbm_rate": (0.02, 0.3), "lightgbm_leaves": [4, 7, 15, 31, 63]},
}


def space_of(config: SearchConfig) -> Space:
    """The space of a search."""
    if config.model in TREE_MODELS:
        return Space(_TREE_AXES[config.model], epochs=(1,), folds=1, kept=1)
    keys = ARCHITECTURES[config.model].parameters
    better = Space(_COMMON | {key: _MODEL_AXES[key] for key in keys}, epochs=(1, 3, 9, 27), folds=1, kept=1 / 3)
    space = _PUBLISHED if config.space == "published" else better
    return replace(space, epochs=config.epochs or space.epochs)


def training_config(config: SearchConfig, values: Mapping[str, Any], epochs: int) -> TrainingConfig:
    """How a trial is trained, and its best again: all its epochs."""
    fixed = {"model": config.model, "seed": config.seed, "epochs": epochs, "patience": epochs}
    return TrainingConfig.model_validate(fixed | dict(values))


def tree_config(config: SearchConfig, values: Mapping[str, Any]) -> TreeConfig:
    """How a trial of a tree model is trained, and its best again."""
    return TreeConfig.model_validate({"models": [config.model], "seed": config.seed, **values})


def to_text(value: Any) -> Any:
    """A value as an optimiser takes it: text for what has parts."""
    return json.dumps(value) if isinstance(value, list) else value


def from_text(value: Any) -> Any:
    """The value of :func:`to_text`, or a number that was drawn, to so many digits as are the same everywhere.

    >>> from_text(to_text([50, 20])), from_text("cosine"), from_text(0.029531179566623014)
    ([50, 20], 'cosine', 0.02953117957)
    """
    if isinstance(value, float):
        return float(f"{value:.{DIGITS}g}")
    return json.loads(value) if isinstance(value, str) and value.startswith("[") else value
