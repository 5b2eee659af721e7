import os
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from toposieve import schema
from toposieve.config import TrainingConfig
from toposieve.models import ARCHITECTURES
from toposieve.preprocessing import Scaling
from toposieve.training.architectures import build_model
from toposieve.training.export import save_for_serving, save_standard, scaled_part

RNG = np.random.default_rng(6)
EVENTS, ROWS = 6, 20
SCALING = Scaling(
    high_level_offset=RNG.normal(size=14).astype(np.float32),
    high_level_scale=RNG.uniform(0.5, 300.0, 14).astype(np.float32),
    particle_offset=RNG.normal(size=19).astype(np.float32),
    particle_scale=RNG.uniform(0.5, 30.0, 19).astype(np.float32),
    weight_factors=dict.fromkeys(schema.SAMPLES, 1.0),
)
LOADED = """
import sys
sys.modules["toposieve"] = None  # as where it is not installed
import keras, numpy as np
folder = sys.argv[1]
events = dict(np.load(f"{folder}/events.npz"))
for name in sys.argv[2:]:
    model = keras.models.load_model(f"{folder}/{name}.keras")
    inputs = {each: events[each] for each in model.input}
    np.save(f"{folder}/{name}.npy", np.asarray(model(inputs, training=False)))
"""


def build(name: str, seed: int = 1) -> keras.Model:
    """A model with weights that are all different from 0."""
    model = build_model(TrainingConfig(model=name, seed=seed), 3)
    model.set_weights([weight + RNG.normal(scale=0.1, size=weight.shape) for weight in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, keras.Model]]:
    """Every model, and its file; and the scores that the files give where Toposieve is not installed."""
    folder = tmp_path_factory.mktemp("models")
    models = {name: build(name) for name in ARCHITECTURES}
    for name, model in models.items():
        save_standard(folder / f"{name}.keras", model, SCALING)
    lengths = np.array([20, 3, 11, 1, 7, 15])
    physical = SCALING.particle_offset + SCALING.particle_scale * RNG.normal(size=(EVENTS, ROWS, 19))
    physical[np.arange(ROWS) >= lengths[:, np.newaxis]] = 0.0
    high_level = SCALING.high_level_offset + SCALING.high_level_scale * RNG.uniform(size=(EVENTS, 14))
    np.savez(folder / "events.npz", particles=physical.astype(np.float32), high_level=high_level.astype(np.float32))
    command = [sys.executable, "-c", LOADED, str(folder), *models]
    subprocess.run(command, check=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"})
    return folder, models


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_scores_are_the_same_without_toposieve(saved: tuple[Path, dict[str, keras.Model]], name: str) -> None:
    folder, models = saved
    physical = np.load(folder / "events.npz")
    real = physical["particles"].any(axis=-1)
    particles = np.zeros_like(physical["particles"])
    particles[real] = SCALING.apply_particles(physical["particles"][real])
    scaled = {"particles": particles, "high_level": SCALING.apply_high_level(physical["high_level"])}
    expected = models[name]({each: scaled[each] for each in models[name].input}, training=False)
    np.testing.assert_allclose(np.load(folder / f"{name}.npy"), expected, atol=1e-5)


@pytest.mark.parametrize("name", ["inclusive", "particle_transformer"])
def test_a_saved_model_gives_the_same_scores_and_needs_no_gpu(
    saved: tuple[Path, dict[str, keras.Model]], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = saved
    with monkeypatch.context() as where_it_is_saved:
        where_it_is_saved.setattr("tensorflow.config.list_logical_devices", lambda _: ["a GPU"])
        save_for_serving(tmp_path, folder / f"{name}.keras")
    loaded = tf.saved_model.load(str(tmp_path))
    scores = loaded.serve(dict(np.load(folder / "events.npz")))
    np.testing.assert_allclose(scores, np.load(folder / f"{name}.npy"), atol=1e-5)


def test_what_was_trained_is_within(saved: tuple[Path, dict[str, keras.Model]]) -> None:
    folder, models = saved
    model = scaled_part(keras.models.load_model(folder / "inclusive.keras"), "inclusive")
    for found, expected in zip(model.get_weights(), models["inclusive"].get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)
    assert scaled_part(model, "inclusive") is model
    with pytest.raises(ValueError, match="hlf"):
        scaled_part(model, "hlf")


def test_the_same_weights_give_the_same_bytes(saved: tuple[Path, dict[str, keras.Model]], tmp_path: Path) -> None:
    folder, models = saved
    again = build_model(TrainingConfig(), 3)  # whatever else the process has made meanwhile
    again.set_weights(models["inclusive"].get_weights())
    save_standard(tmp_path / "again.keras", again, SCALING)
    assert (tmp_path / "again.keras").read_bytes() == (folder / "inclusive.keras").read_bytes()
    with zipfile.ZipFile(tmp_path / "again.keras") as archive:
        assert b"1980-01-01" in archive.read("metadata.json")
    save_standard(tmp_path / "other.keras", build("inclusive", seed=2), SCALING)
    assert (tmp_path / "other.keras").read_bytes() != (folder / "inclusive.keras").read_bytes()
