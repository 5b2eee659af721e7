import keras
import pytest

from toposieve.config import TrainingConfig
from toposieve.models import ARCHITECTURES
from toposieve.training.architectures import build_model
from toposieve.training.layers import describe_layers, differences


def layers_of(activation: str = "relu", units: int = 5, rewired: bool = False) -> list[str]:
    inputs = keras.Input((3,))
    one = keras.layers.Dense(units, activation=activation)(inputs)
    two = keras.layers.Dense(units)(inputs if rewired else one)
    return describe_layers(keras.Model(inputs, keras.layers.Add()([one, two])))


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_model_is_described_alike_each_time(name: str) -> None:
    """Keras numbers the layers that have no name of their own, and counts on."""
    config = TrainingConfig(model=name)
    assert describe_layers(build_model(config, 3)) == describe_layers(build_model(config, 3))


@pytest.mark.parametrize("change", [{"activation": "linear"}, {"units": 6}, {"rewired": True}])
def test_another_model_is_described_otherwise(change: dict[str, object]) -> None:
    assert differences(layers_of(), layers_of()) == ""
    assert "dense (Dense 3x5 5 " in differences(layers_of(), layers_of(**change)) or "rewired" in change
    assert differences(layers_of(), layers_of(**change))


def test_layers_that_are_no_more_are_said() -> None:
    assert differences(["a", "b"], ["a"]) == "b is now nothing"
