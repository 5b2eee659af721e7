"""The models, a family in each module; :data:`toposieve.models.ARCHITECTURES` registers them by name.

As published (arXiv:1909.10389), unless a function says otherwise. Inputs are a dictionary by the names registered, the
output is the probability of each class, (batch, classes).
"""

from __future__ import annotations

import keras

from toposieve.config import TrainingConfig
from toposieve.training.architectures import dense, particle_transformer, recurrent, transformer
from toposieve.training.seeds import folded
from toposieve.training.shards import Dataset

_FAMILIES = (dense, recurrent, transformer, particle_transformer)


def build_model(config: TrainingConfig, classes: int) -> keras.Model:
    """A new model that tells so many classes apart, its initial weights drawn from the seed."""
    keras.utils.set_random_seed(folded(config.seed))
    build = next(getattr(family, config.model) for family in _FAMILIES if hasattr(family, config.model))
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(config.precision)
    try:
        return build(classes=classes, **config.parameters)
    finally:
        keras.config.set_dtype_policy(before)


def new_model(config: TrainingConfig, dataset: Dataset) -> keras.Model:
    """A model to train on a dataset, told how that was scaled if it needs to know.

    Raises:
        InvalidInputError: It does, and the dataset has no scaling.
    """
    model = build_model(config, len(dataset.classes))
    particle_transformer.set_scaling(model, dataset.scaling)
    return model
