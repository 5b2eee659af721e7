"""From a run to accepted firmware in the store: distil, translate, simulate, compare, publish.

Nothing is published unless it is accepted.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import keras
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from toposieve.code_numbers import CODE_NUMBERS
from toposieve.config import FirmwareConfig
from toposieve.errors import InvalidInputError
from toposieve.firmware import hls
from toposieve.firmware.acceptance import Findings, areas, differing_logits, objections
from toposieve.firmware.port import Port, Words, random_features
from toposieve.firmware.sources import Source
from toposieve.firmware.student import (
    Learnt,
    Lesson,
    build_student,
    distil,
    logits_of,
    use_one_thread,
)
from toposieve.firmware.trigger import Judged, working_points
from toposieve.firmware.verilog import Firmware, size_of, verilator_on_path
from toposieve.firmware.yosys import FAMILY, TOP
from toposieve.io.content_folders import upload
from toposieve.io.event_tables import features_of, read_tables
from toposieve.io.manifests import Manifest, OutputFile, Unit
from toposieve.io.publication import Publication, is_up_to_date
from toposieve.io.sample_cross_sections import cross_sections
from toposieve.io.scores import probabilities
from toposieve.models import HIGH_LEVEL
from toposieve.training.architectures import parts
from toposieve.training.export import scaled_part
from toposieve.version import code_version

STAGE = "firmware"
VERILOG_FILE = f"{TOP}.v"
CONSTRAINTS_FILE = f"{TOP}.xdc"
REPORT_FILE = "firmware.json"
PACKAGES = ("alkaid", "hgq2", "hls4ml", "keras", "pyosys", "verilator")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Events:
    """A split, as the network and the firmware take it."""

    scaled: NDArray[np.float32]
    """(events, 14), for the network."""
    steps: Words
    """(events, 14), before the words end."""
    labels: NDArray[np.int64]
    weights: NDArray[np.float64]


def make(publication: Publication, source: Source, config: FirmwareConfig) -> Manifest:
    """Make the firmware and publish it, unless the same is published already.

    Raises:
        InvalidInputError: A table or the model is damaged, or the firmware is not accepted; the message says why.
        ConflictError: Another process published other firmware of this run meanwhile.
    """
    use_one_thread()
    port = Port.of(source.scaling, config.port_fraction_bits)
    network = _open_network(source)
    splits = {name: _read(source, port, name) for name in ("train", "validation", "test")}
    student, learnt = _distil(network, port, source, splits, config)
    with TemporaryDirectory(prefix="toposieve-") as name:
        scratch = Path(name)
        report = _prove(network, student, port, source, splits, config, scratch) | {"training": asdict(learnt)}
        (scratch / REPORT_FILE).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        files = upload(scratch, (VERILOG_FILE, CONSTRAINTS_FILE, REPORT_FILE), publication.folder)
        manifest = _manifest(source, config, files)
        if not is_up_to_date(publication.previous, manifest):
            manifest = publication.publish(manifest)
        (publication.folder / REPORT_FILE).write_bytes((scratch / REPORT_FILE).read_bytes())  # for people
    return manifest


def _open_network(source: Source) -> keras.Model:
    """The network on scaled features, without its softmax."""
    with source.network.fetch() as path:
        return parts.logits_of(scaled_part(keras.models.load_model(path, compile=False), source.run.model))


def _read(source: Source, port: Port, split: str) -> Events:
    table = pa.concat_tables(read_tables(source.data.directory, source.data.manifest, split))
    scaled, scaling = features_of(table), source.scaling
    physical = scaling.physical_high_level(scaled.astype(np.float64))
    labels = table["label"].to_numpy().astype(np.int64)
    return Events(scaled, port.rounded(physical), labels, table["weight"].to_numpy().astype(np.float64))


def _distil(
    network: keras.Model, port: Port, source: Source, splits: dict[str, Events], config: FirmwareConfig
) -> tuple[keras.Model, Learnt]:
    student = build_student(network, port, source.scaling, config)
    lessons = {name: _lesson(network, port, splits[name]) for name in ("train", "validation")}
    events = len(lessons["train"].values)
    logger.info("distilling %s: %d epochs of %d events", source.run.directory, config.epochs, events)
    learnt = distil(student, lessons["train"], lessons["validation"], port, config)
    logger.info("best epoch %d: validation loss %.4f", learnt.best_epoch, learnt.validation_loss)
    return student, learnt


def _lesson(network: keras.Model, port: Port, events: Events) -> Lesson:
    told = logits_of(network, {HIGH_LEVEL: events.scaled})
    sizes = np.abs(events.weights)  # as a network's training counts them, unless it was told otherwise
    return Lesson(port.values(events.steps), probabilities(told.astype(np.float32)), sizes)


def _prove(
    network: keras.Model,
    student: keras.Model,
    port: Port,
    source: Source,
    splits: Mapping[str, Events],
    config: FirmwareConfig,
    scratch: Path,
) -> dict[str, Any]:
    """Translate, simulate and compare; leaves Verilog and constraints in scratch.

    Returns:
        The report, without the training.

    Raises:
        InvalidInputError: The firmware is not accepted.
    """
    with verilator_on_path(scratch):
        firmware = Firmware(student, port, config.clock_period_ns, scratch / TOP)
        logger.info("Verilog of %d cycles; simulating it", firmware.cycles)
        verilog = firmware.verilog()
        (scratch / VERILOG_FILE).write_text(verilog, encoding="utf-8")
        (scratch / CONSTRAINTS_FILE).write_text(firmware.constraints(), encoding="utf-8")
        performance = _compare(network, student, firmware, port, source, splits, config, scratch)
    classes = source.data.classes
    return {
        "dataset": source.data.directory.name,
        "model": source.run.model,
        "run": source.run.directory.name,
        **performance,
        "timing": _timing(firmware.cycles, config.clock_period_ns),
        "size": {**size_of(verilog, scratch), "by": f"Yosys for {FAMILY}, before place and route"},
        "input": {"name": "model_inp", "word_bits": port.word_bits, "words": port.describe()},
        "output": {
            "name": "model_out",
            "logits": [{"class": name, **each} for name, each in zip(classes, firmware.outputs(), strict=True)],
        },
        "packages": {name: version(name) for name in PACKAGES},
    }


def _compare(
    network: keras.Model,
    student: keras.Model,
    firmware: Firmware,
    port: Port,
    source: Source,
    splits: Mapping[str, Events],
    config: FirmwareConfig,
    scratch: Path,
) -> dict[str, Any]:
    """Simulate Verilog, C++ by hls4ml, and Verilog with a fault; what the report says of it.

    Raises:
        InvalidInputError: The firmware is not accepted.
    """
    test = splits["test"]
    steps = {"test": test.steps, "random": port.rounded(random_features(port, config.random_events, config.seed))}
    expected = {name: logits_of(student, port.values(each)) for name, each in steps.items()}
    firmware.build()
    words = {name: port.saturated(each) for name, each in steps.items()}
    found = {name: firmware.simulate(each) for name, each in words.items()}
    second = hls.simulate(student, port, words, scratch / "hls")
    adder = firmware.flip_adder()
    firmware.build()
    faulty = firmware.simulate(words["test"])
    told, classes = logits_of(network, {HIGH_LEVEL: test.scaled}), source.data.classes
    findings = Findings(
        differing={name: differing_logits(expected[name], found[name]) for name in steps},
        differing_from_hls4ml={name: differing_logits(second[name], found[name]) for name in steps},
        compared={name: each.size for name, each in expected.items()},
        fault_differing=differing_logits(expected["test"], faulty),
        auc=areas(test.labels, test.weights, found["test"], classes),
        network_auc=areas(test.labels, test.weights, told, classes),
    )
    refused = objections(findings, config.auc_tolerance)
    if refused:
        raise InvalidInputError(
            f"the firmware of {source.run.directory} is not accepted, and nothing is published: {'; '.join(refused)}; "
            "try more epochs, or a smaller bit_cost"
        )
    return {
        **_performance(findings, float((found["test"].argmax(axis=1) == told.argmax(axis=1)).mean())),
        "working_points": working_points(
            _judged(network, student, port, splits["validation"]),
            Judged(test.labels, test.weights, {"network": told, "firmware": found["test"]}),
            classes,
            cross_sections(source.data.manifest),
        ),
        "flipped_adder": {"adder": adder, "differing_logits": findings.fault_differing},
    }


def _judged(network: keras.Model, student: keras.Model, port: Port, events: Events) -> Judged:
    """What network and firmware say, the latter by its student, which says the same."""
    told = {
        "network": logits_of(network, {HIGH_LEVEL: events.scaled}),
        "firmware": logits_of(student, port.values(events.steps)),
    }
    return Judged(events.labels, events.weights, told)


def _performance(findings: Findings, agreement: float) -> dict[str, Any]:
    return {
        "auc": {name: {"firmware": area, "network": findings.network_auc[name]} for name, area in findings.auc.items()},
        "agreement": agreement,  # share of test events of which both say the same class
        "logits": {
            name: {
                "compared": compared,
                "differing": findings.differing[name],
                "differing_from_hls4ml": findings.differing_from_hls4ml[name],
            }
            for name, compared in findings.compared.items()
        },
    }


def _timing(cycles: int, period: float) -> dict[str, Any]:
    return {
        "cycles": cycles,
        "clock_period_ns": period,
        "latency_ns": cycles * period,
        "events_per_second": 1e9 / period,  # every cycle takes one
        "by": "delays that alkaid estimates, before place and route",
    }


def _manifest(source: Source, config: FirmwareConfig, files: tuple[OutputFile, ...]) -> Manifest:
    events = source.data.split.events
    unit = Unit(
        source=f"models/{source.run.model}/{source.run.directory.name}",
        source_checksum="",
        entry_start=0,
        entry_stop=events,
        counts={"events": events, "random_events": config.random_events},
        outputs=files,
    )
    return Manifest(
        stage=STAGE,
        config_hash=config.hash,
        config=config.model_dump(mode="json"),
        code=CODE_NUMBERS[STAGE],
        inputs=source.inputs,
        units=(unit,),
        code_version=code_version(),
    )
