"""The models that there are, by name: what each takes, and the keys of the training configuration that shape it.

A model is the function of its name in :mod:`toposieve.training.architectures`. No Keras here: configuration, command
lines and trigger forms know models from this table.
"""

from __future__ import annotations

from dataclasses import dataclass

HIGH_LEVEL = "high_level"
"""Input (batch, 14): features of the event."""
PARTICLES = "particles"
"""Input (batch, particles, 19): features of its particles in order, zero-padded on the right."""


@dataclass(frozen=True)
class Architecture:
    """What is known of a model without building it."""

    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    """Keys of :class:`~toposieve.config.TrainingConfig` that its function takes by keyword, beside ``classes``."""


_JOINED = ("joined_units", "dropout_rate")
_SET = ("set_units", "set_heads", "set_blocks", *_JOINED)

ARCHITECTURES: dict[str, Architecture] = {
    "hlf": Architecture((HIGH_LEVEL,), ("hlf_units",)),
    "particle_sequence": Architecture((PARTICLES,), ("gru_units", "dropout_rate")),
    "inclusive": Architecture((HIGH_LEVEL, PARTICLES), ("gru_units", *_JOINED)),
    "particle_sequence_lstm": Architecture((PARTICLES,), ("lstm_units", "dropout_rate")),
    "inclusive_lstm": Architecture((HIGH_LEVEL, PARTICLES), ("lstm_units", *_JOINED)),
    "particle_sequence_transformer": Architecture((PARTICLES,), ("transformer_heads", "dropout_rate")),
    "inclusive_transformer": Architecture((HIGH_LEVEL, PARTICLES), ("transformer_heads", *_JOINED)),
    "inclusive_masked_transformer": Architecture((HIGH_LEVEL, PARTICLES), _SET),
    "particle_transformer": Architecture((HIGH_LEVEL, PARTICLES), ("leading_particles", *_SET)),
}
"""In the order of reports and forms."""


TREE_MODELS = ("random_forest", "xgboost", "lightgbm")
"""Models of the high-level features that networks are compared with. Their keys begin with their names."""


def training_job(model: str) -> str:
    """The job that trains a model."""
    return "train_trees.py" if model in TREE_MODELS else "train.py"


def models_with(parameter: str) -> list[str]:
    """Models that a key of the configuration shapes; none where it concerns every model alike.

    >>> models_with("lstm_units"), models_with("xgboost_depth"), models_with("seed")
    (['particle_sequence_lstm', 'inclusive_lstm'], ['xgboost'], [])
    """
    networks = [name for name, architecture in ARCHITECTURES.items() if parameter in architecture.parameters]
    return networks + [name for name in TREE_MODELS if parameter.startswith(f"{name}_")]
