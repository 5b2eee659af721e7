r"""Give a version of the registry a portable form: an ONNX file that needs neither TensorFlow nor this project.

    python jobs/export_model.py --base DATA
    python jobs/export_model.py --base DATA --version 3

writes {base}/registry/{name}/files/.../model.onnx and, last, exports/{version}.json, which names it. Without --version,
the published one is exported; one that has its portable form already is left as it is.

The graph takes physical units, as the metadata in it say: high_level (events, 14) and particles (events, particles, 19)
in sequence order, padded on the right, with lengths (events,). It gives logits and probabilities. It is compared with
the model itself on all test events first, and kept only if no probability differs by more than 1e-5.

Networks and trees (random_forest, xgboost, lightgbm) have one form and one scorer. An imported dataset does not say how
it was scaled: the graph of a model of such a one takes events as they are there. A network with a layer that has no
place in such a graph, as the Particle Transformer, has no portable form: with --where-possible this is only said.
"""

from __future__ import annotations

import argparse
import logging
import os
from typing import Any

import numpy as np

from toposieve import cli, registry
from toposieve.errors import InvalidInputError
from toposieve.io.datasets import SCALING_NAME
from toposieve.io.manifests import read_manifest
from toposieve.io.names import path_key
from toposieve.io.scores import probabilities, read_scores, scores_folder
from toposieve.io.store import Key
from toposieve.models import ARCHITECTURES
from toposieve.preprocessing import Scaling
from toposieve.serving.exports import NotPortableError, keep_export, read_export, units_of

TOLERANCE = 1e-5
"""Largest difference of a probability."""

logger = logging.getLogger("export_model")


def arg_parser() -> argparse.ArgumentParser:
    """The job's command line."""
    parser = cli.base_parser(__doc__ or "")
    parser.add_argument("--name", default="topology", help="what models are published as (default: topology)")
    parser.add_argument("--version", type=int, help="number of a version; default: the published one")
    parser.add_argument(
        "--where-possible", action="store_true", help="end well, too, where the model cannot have a portable form"
    )
    return parser


def main(args: argparse.Namespace) -> None:
    """Export, compare, keep."""
    base, name = cli.base_key(args), path_key("--name", args.name)
    folder = registry.registry_folder(base, name)
    number = registry.published_version(folder) if args.version is None else args.version
    version = registry.read_version(folder, number)
    try:
        export = read_export(folder, number)
    except InvalidInputError:
        try:
            content = _portable(folder, version)
        except NotPortableError as reason:
            if not args.where_possible:
                raise
            logger.warning("%s", reason)
            return
        run = registry.run_of_version(base, name, number)
        events, difference = _compare(base, run, content, number)
        export = keep_export(folder, number, content, events=events, difference=difference)
    logger.info(
        "version %d (%s): %s; largest difference of a probability on %d test events: %.1e",
        number,
        version.label,
        folder / export.file.path,
        export.events,
        export.difference,
    )


def _portable(folder: Key, version: registry.Version) -> bytes:
    """The ONNX file of a version's model."""
    files = {key.name: key for key in registry.files_of(folder, version)}
    scaling = Scaling.from_json(files[SCALING_NAME].read_text()) if SCALING_NAME in files else None
    make = _network if version.architecture in ARCHITECTURES else _trees
    return make(files, version.architecture, scaling, _metadata(version, scaled=scaling is None))


def _network(files: dict[str, Key], architecture: str, scaling: Scaling | None, metadata: dict[str, Any]) -> bytes:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    import keras

    from toposieve.serving.portable import to_onnx
    from toposieve.training.export import scaled_part

    with files["model.keras"].fetch() as path:
        model = scaled_part(keras.models.load_model(path, compile=False), architecture)
    return to_onnx(model, scaling, metadata)


def _trees(files: dict[str, Key], model: str, scaling: Scaling | None, metadata: dict[str, Any]) -> bytes:
    from toposieve.serving.portable_trees import trees_to_onnx
    from toposieve.tuning.tree_models import MODELS

    return trees_to_onnx(model, files[MODELS[model].file].read_bytes(), scaling, metadata)


def _metadata(version: registry.Version, *, scaled: bool) -> dict[str, Any]:
    """What the file says of itself; nothing in it is another for the same model."""
    keys = ("target", "threshold")
    return {
        "architecture": version.architecture,
        "classes": version.classes,
        "features": units_of(version.features, scaled=scaled),
        "thresholds": {
            name: [{key: point[key] for key in keys} for point in of] for name, of in version.thresholds.items()
        },
        "lineage": version.lineage,
    }


def _compare(base: Key, run: str, content: bytes, number: int) -> tuple[int, float]:
    """Test events, and the largest difference of a probability from the model's own on them.

    Raises:
        InvalidInputError: It is too large.
    """
    from toposieve.evaluation.inputs import open_test_data
    from toposieve.serving.scorer import Scorer
    from toposieve.serving.stored_events import DatasetEvents

    dataset = base / next(iter(read_manifest(base / run).inputs))
    data = open_test_data(dataset)
    scorer = Scorer(content, number, scaled=data.scaling is None)
    expected = probabilities(read_scores(scores_folder(base, dataset.name, base / run), "test").logits)
    units = [unit for unit in data.manifest.units if unit.source.partition("/")[0] == data.split.name]
    shards = [DatasetEvents(dataset, unit, data.split.classes, data.scaling) for unit in units]
    found = np.concatenate([scored.logits for shard in shards for scored in shard.scored(scorer)])
    difference = float(np.abs(probabilities(found) - expected).max())
    if not difference <= TOLERANCE:
        raise InvalidInputError(
            f"version {number}: a probability of the portable form differs by {difference:.1e} from the model's own "
            f"on the test events of {dataset}, {TOLERANCE:.0e} at most: it is not kept"
        )
    return len(expected), difference


if __name__ == "__main__":
    cli.run(main, arg_parser())
