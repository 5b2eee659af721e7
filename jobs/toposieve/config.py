"""Configuration: one frozen pydantic model per stage, every default once.

The JSON schema of these models (``dags/config/schema.json``, written by ``make schema``) gives the Airflow trigger form
its fields, defaults and checks. A stage's configuration hash decides whether existing output can be kept.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import ErrorDetails

from toposieve import schema
from toposieve.classes import CLASSES, PUBLISHED_CLASSES
from toposieve.errors import InvalidInputError
from toposieve.models import ARCHITECTURES, TREE_MODELS, models_with
from toposieve.text_hash import text_hash

if TYPE_CHECKING:
    Sample = str
    ModelName = str
    TreeModelName = str
    SearchedName = str
else:
    Sample = Literal[tuple(CLASSES)]
    ModelName = Literal[tuple(ARCHITECTURES)]
    TreeModelName = Literal[TREE_MODELS]
    SearchedName = Literal[(*ARCHITECTURES, *TREE_MODELS)]
Units = Annotated[int, Field(ge=1)]
Epochs = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
ClassName = Annotated[str, Field(pattern="^[A-Za-z][A-Za-z0-9_]*$")]
BitMask = Annotated[int, Field(ge=1, lt=2**32)]
VARIATIONS = ("jet_scale", "met_scale", "track_loss", "btag_flips")
"""Keys of the selection that vary events; where they change nothing, they are not written down."""
OF_NETWORKS: JsonDict = {"models": [*ARCHITECTURES]}
"""What the schema says of a key of the search that tree models have no use for."""


class StageConfig(BaseModel):
    """Base of every stage's configuration: immutable, and strict about unknown keys.

    A field that decides whether output is made, not what it holds, has ``exclude``: hash and manifest do without it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @property
    def hash(self) -> str:
        """Sixteen hexadecimal digits that change with any value that is not excluded."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return text_hash(canonical)


class SimulationConfig(StageConfig):
    """What to simulate: Pythia 8.3 events, pile-up and a fast CMS-like detector."""

    samples: tuple[Sample, ...] = tuple(CLASSES)
    """Processes to generate."""
    selected_events: int = Field(default=1000, ge=1, le=100_000_000)
    """Events per sample that pass the default selection; generation stops at the first file that reaches it."""
    pileup: float = Field(default=20.0, ge=0, le=300)
    """Mean number of pile-up interactions per event (Poisson)."""
    pileup_library_events: int = Field(default=5000, ge=1)
    """Minimum-bias events in the library that pile-up is drawn from."""
    qcd_fast: bool = False
    """Approximate qcd by hard b and c pairs only: faster, but not the full QCD mixture."""
    events_per_file: int = Field(default=250, ge=1)
    """Events per ROOT file; each file has a seed of its own."""
    seed: int = Field(default=1, ge=0)
    """Seed of the whole simulation. Every partition, sample and file derives its own."""


class IngestConfig(StageConfig):
    """How ROOT files are cut into units of work."""

    entries_per_unit: int = Field(default=10_000, ge=1)
    """Most entries of a file in one unit of work, fewer where they are large: a task holds all that it selects."""
    store_events: bool = Field(default=False, exclude=True)
    """Store every event's needed leaves as Parquet, as large as the ROOT files: for those who will select many times,
    with other cuts. The selection is the same either way."""


class SelectionConfig(StageConfig):
    """Object cuts, isolation and event selection (every cut is strict)."""

    track_pt_min: Positive = 0.5
    """Tracks kept: PT above this, GeV."""
    photon_et_min: Positive = 1.0
    """Photons kept: ET above this, GeV."""
    neutral_et_min: Positive = 1.0
    """Neutral hadrons kept: ET above this, GeV."""
    jet_pt_min: Positive = 30.0
    """Jets kept: PT above this, GeV."""
    jet_eta_max: Positive = 2.6
    """Jets kept: |Eta| below this."""
    lepton_pt_min: Positive = 23.0
    """Electrons and muons kept: PT above this, GeV."""
    isolation_cone: Positive = 0.3
    """Particle-flow isolation sums particles at ΔR below this."""
    isolation_max: Positive = 0.45
    """A lepton is isolated if its charged + photon + neutral isolation is below this."""
    own_track_dr: Positive = 1e-4
    """A track at ΔR up to this from a lepton is that lepton's own."""
    jet_lepton_dr: float = Field(default=0.4, ge=0)
    """Jets at ΔR below this from the lepton are left out of HT, nJets and nBjets; 0 keeps all, as published."""
    btag_mask: dict[Sample, BitMask] = Field(default={name: each.btag_mask for name, each in CLASSES.items()})
    """Bits of Jet.BTag that count as b-tagged, per sample (cards with several taggers use other bits)."""

    jet_scale: Positive = 1.0
    """Systematic variation: PT of all jets is multiplied by it."""
    met_scale: Positive = 1.0
    """Systematic variation: the missing transverse energy is multiplied by it."""
    track_loss: float = Field(default=0.0, ge=0, lt=1)
    """Systematic variation: share of the tracks that is missing, chosen by hash."""
    btag_flips: float = Field(default=0.0, ge=0, le=1)
    """Systematic variation: share of the jets that is b-tagged if it was not, and is not if it was, chosen by hash."""

    @model_serializer(mode="wrap")
    def _without_variations(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # What is not varied is known, and kept, as it was before there were variations.
        fields, values = type(self).model_fields, dict[str, Any](serialize(self))
        return {key: value for key, value in values.items() if key not in VARIATIONS or value != fields[key].default}

    @model_validator(mode="after")
    def _complete_btag_mask(self) -> Self:
        missing = [sample for sample in schema.SAMPLES if sample not in self.btag_mask]
        if missing:
            raise ValueError(f"btag_mask lacks {', '.join(missing)}; give every sample its bits, for example 1")
        return self


class PreparationConfig(StageConfig):
    """How selected events become a training dataset."""

    classes: tuple[Sample, ...] = Field(default=tuple(CLASSES), min_length=2)
    """Samples that become the classes of the dataset, in the order of their labels; others are left out."""
    seed: int = Field(default=1, ge=0)
    """Seed of balance, split and shuffle."""
    train_fraction: Fraction = 0.64
    """Share of the balanced events in the training split."""
    validation_fraction: Fraction = 0.16
    """Share of the balanced events in the validation split; the test split is the rest."""
    balance: bool = True
    """Keep equally many events of every class, chosen by hash."""
    max_events_per_class: int | None = Field(default=None, ge=1)
    """Keep at most this many events of each class; empty keeps all."""
    events_per_shard: int = Field(default=4_000, ge=1)
    """Most events in one shard, fewer where they are large: the task that writes it holds all, 38 bytes a particle."""
    parquet: bool = False
    """Write every shard as Parquet too."""
    effective_events_min: float = Field(default=0.01, ge=0, le=1, exclude=True)
    """Refuse a class whose weights leave it fewer effective events, (Σw)² / Σw², than this share of its events."""

    @model_validator(mode="after")
    def _distinct_classes(self) -> Self:
        _check_distinct(self.classes)
        return self

    @model_validator(mode="after")
    def _leave_room_for_test(self) -> Self:
        if self.train_fraction + self.validation_fraction >= 1:
            raise ValueError("train_fraction + validation_fraction must stay below 1: the rest is the test split")
        return self


class ImportConfig(StageConfig):
    """How to make a published dataset ours; not a stage of the DAG."""

    high_level_key: str = "HLF_input"
    """Key, or column, of the 14 high-level features."""
    particles_key: str = "GRU_input"
    """Key of the zero-padded particles."""
    label_key: str = "encoded_label"
    """Key of the one-hot label."""
    classes: tuple[ClassName, ...] = Field(default=PUBLISHED_CLASSES, min_length=2)
    """Names of the label's columns, in order."""
    validation_fraction: Fraction = 0.2
    """Share of the training files' events that become the validation split."""
    seed: int = Field(default=1, ge=0)
    """Seed of the choice of these events."""

    @model_validator(mode="after")
    def _distinct_classes(self) -> Self:
        _check_distinct(self.classes)
        return self

    @property
    def keys(self) -> tuple[str, str, str]:
        """Keys of high-level features, particles and label."""
        return self.high_level_key, self.particles_key, self.label_key


class TrainingConfig(StageConfig):
    """One training run. The number of workers is not part of it: it does not change the result."""

    model: ModelName = Field(
        default="inclusive", json_schema_extra={"formDefault": ["hlf", "particle_sequence", "inclusive"]}
    )
    """Architecture to train."""
    epochs: int = Field(default=6, ge=1)
    """Most passes over the training split."""
    batch_size: int = Field(default=128, ge=1)
    """Events per step over all workers."""
    learning_rate: Positive = 1e-3
    """Adam's learning rate."""
    learning_rate_schedule: Literal["constant", "cosine", "steps"] = "constant"
    """How it goes on: as it is, down along a cosine to 0 at the end of the last epoch, or in learning_rate_steps."""
    learning_rate_steps: dict[Epochs, Positive] = Field(default={3: 0.4, 5: 0.2})
    """Epochs done → what the rate is multiplied by from then on, if it goes in steps; the default is the published."""
    warmup_steps: int = Field(default=0, ge=0)
    """First steps, in which the rate rises from 0."""
    gradient_norm_max: Positive | None = None
    """Gradients are scaled down to this norm over all weights; empty leaves them as they are."""
    patience: int = Field(default=3, ge=1)
    """Epochs without a better validation loss before training stops; the best epoch's weights are kept."""
    checkpoint_steps: int = Field(default=200, ge=1, exclude=True)
    """Steps between checkpoints, besides one at every epoch's end; more where a step takes less time than they do."""
    micro_batch_size: int | None = Field(default=None, ge=1, exclude=True)
    """Most events that a worker computes at a time, to spare memory; empty computes all that it has of a batch."""
    precision: Literal["float32", "mixed_bfloat16"] = "float32"
    """What layers compute in; weights and loss stay in float32. mixed_bfloat16 needs a GPU, and is for speed there."""
    event_weights: Literal["absolute", "signed", "none"] = "absolute"
    """What an event counts in the loss: its weight's size, its weight as it is (may diverge), or 1."""
    seed: int = Field(default=1, ge=0)
    """Seed of initial weights, event order and dropout."""
    hlf_units: tuple[Units, ...] = (50, 20, 10)
    """Units of the layers of hlf, one after the other."""
    gru_units: Units = 50
    """Units of the GRU that reads the particles."""
    lstm_units: Units = 50
    """Units of the LSTM that reads the particles."""
    transformer_heads: Units = 8
    """Heads of attention of the published Transformer."""
    set_units: Units = 32
    """Numbers that stand for a particle between the layers of the Transformers that see a set of particles."""
    set_heads: Units = 2
    """Heads of attention of these, which share the units."""
    set_blocks: Units = 2
    """Blocks of attention of these."""
    leading_particles: Units = 128
    """Particles, those of highest pt, that the Particle Transformer looks at."""
    joined_units: Units = 25
    """Units of the layer that joins the particles' summary with the high-level features."""
    dropout_rate: float = Field(default=0.2, ge=0, lt=1)
    """Share of the particles' summary, and of the high-level features beside it, that a training step leaves out."""

    @property
    def parameters(self) -> dict[str, Any]:
        """The keys that shape the model, with their values."""
        return {key: getattr(self, key) for key in ARCHITECTURES[self.model].parameters}

    @model_serializer(mode="wrap")
    def _without_other_models(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Of what is written down a run is known: keys of other models are no part of it.
        values: dict[str, Any] = serialize(self)
        return {key: value for key, value in values.items() if self.model in models_with(key) or not models_with(key)}


class EvaluationConfig(StageConfig):
    """What the report computes."""

    working_points: tuple[Fraction, ...] = (0.90, 0.95, 0.99)
    """True-positive rates at which thresholds are chosen on the validation split, and false-positive rates reported."""
    cross_sections: dict[Sample, Positive] = Field(default={})
    """Cross-section of the selected events of a sample, pb, in place of what the dataset says."""
    luminosity: Positive = 2e34
    """Instantaneous luminosity that turns cross-sections into rates, cm⁻² s⁻¹."""
    rate_budgets: tuple[Positive, ...] = (20.0, 100.0)
    """Rates of all samples together, Hz, that thresholds are to stay within."""
    bootstrap_samples: int = Field(default=200, ge=2)
    """Bootstrap resamplings behind every error."""
    seed: int = Field(default=1, ge=0)
    """Seed of the bootstrap."""


class PublicationConfig(StageConfig):
    """Rules by which a candidate is published where nobody decides."""

    auc_min: Fraction = 0.9
    """Least area under the ROC curve, of every class."""
    auc_errors: float = Field(default=1.0, ge=0)
    """Errors of the difference by which an area may be below that of the published model."""
    rate_class: Sample = "ttbar"
    """Class whose working point the rate is looked up at."""
    rate_working_point: Fraction = 0.95
    """True-positive rate of this working point: one of those of the report."""
    rate_max: Positive | None = None
    """Most Hz of all samples together there; empty does not look at rates."""


class DecisionConfig(StageConfig):
    """How a published model decides."""

    target: Fraction | None = None
    """True-positive rate of the working point that decides, one of those of its report; empty for the highest."""


class SearchConfig(StageConfig):
    """A search for a model's best configuration."""

    model: SearchedName = "hlf"
    """Network or tree model whose configuration is searched for."""
    space: Literal["published", "better"] = Field(default="better", json_schema_extra=OF_NETWORKS)
    """published: 243 candidates for hlf in 5 folds, all; better: of networks learning rate, its schedule, batch size
    and their own keys, drawn, and given up early where others do better; of trees number, size and rate, of a forest
    depth alone."""
    trials: int = Field(default=200, ge=1)
    """Configurations to draw in the space better; a forest's are four."""
    batch_trials: int = Field(default=25, ge=1)
    """Trials that are drawn, and compared, at a time."""
    epochs: tuple[Epochs, ...] = Field(default=(), json_schema_extra=OF_NETWORKS)
    """Epochs after which trials are compared, rising; empty takes those of the space. Trees have none."""
    seed: int = Field(default=1, ge=0)
    """Seed of the draws, and of every training."""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.space == "published" and self.model != "hlf":
            raise ValueError(f"the published space is of hlf, not of {self.model}: set space to better")
        if self.epochs and self.model in TREE_MODELS:
            raise ValueError(f"{self.model} is trained at once: leave epochs empty")
        if list(self.epochs) != sorted(set(self.epochs)):
            raise ValueError("epochs must rise, for example [1, 3, 9]")
        return self


class TreeConfig(StageConfig):
    """The tree models that networks are compared with.

    The forest's defaults are as published, the others' those of their libraries.
    """

    models: tuple[TreeModelName, ...] = Field(default=TREE_MODELS, min_length=1, exclude=True)
    """Models to train."""
    random_forest_trees: int = Field(default=100, ge=1)
    """Trees of the random forest."""
    random_forest_depth: int = Field(default=10, ge=1, le=30)
    """Most cuts on the way to a leaf of the random forest."""
    xgboost_rounds: int = Field(default=100, ge=1)
    """Rounds of XGBoost; each has a tree for each class."""
    xgboost_rate: Positive = 0.3
    """What a round of XGBoost counts."""
    xgboost_depth: int = Field(default=6, ge=1)
    """Most cuts on the way to a leaf of XGBoost."""
    lightgbm_rounds: int = Field(default=100, ge=1)
    """Rounds of LightGBM; each has a tree for each class."""
    lightgbm_rate: Positive = 0.1
    """What a round of LightGBM counts."""
    lightgbm_leaves: int = Field(default=31, ge=2)
    """Most leaves of a tree of LightGBM."""
    seed: int = Field(default=1, ge=0)
    """Seed of all three."""

    def of(self, model: str) -> dict[str, Any]:
        """The keys that concern one model."""
        values = self.model_dump(mode="json")
        return {key: value for key, value in values.items() if models_with(key) in ([], [model])}

    def keys_of(self, model: str) -> dict[str, Any]:
        """The same, without the model's name before them."""
        return {key.removeprefix(f"{model}_"): value for key, value in self.of(model).items()}


class FirmwareConfig(StageConfig):
    """How a network becomes firmware."""

    epochs: Epochs = 60
    """Epochs of the quantised network's training; the one of the least validation loss is taken."""
    batch_size: int = Field(default=128, ge=1)
    """Events a step."""
    learning_rate: Positive = 3e-3
    """Adam's at the first step; it falls to 0 as a cosine."""
    bit_cost: float = Field(default=1e-7, ge=0)
    """What a product of one bit by one bit adds to the loss: more makes the firmware smaller, and less exact."""
    port_fraction_bits: int = Field(default=10, ge=4, le=16)
    """Bits of an input word below the range of the training split."""
    clock_period_ns: Positive = 5.0
    """Most delay of the logic between two registers, as the translator estimates it."""
    random_events: int = Field(default=15_000, ge=3)
    """Events of random features, out of range among them, on which Verilog and quantised network are compared."""
    auc_tolerance: float = Field(default=0.003, ge=0, lt=1)
    """Most by which the AUC of a class may differ from that of the network."""
    seed: int = Field(default=1, ge=0)
    """Of the training and of the random events."""


ConfigT = TypeVar("ConfigT", bound=StageConfig)


def _check_distinct(classes: tuple[str, ...]) -> None:
    if len(set(classes)) < len(classes):
        raise ValueError(f"classes must differ from each other (got {', '.join(classes)})")


STAGES: dict[str, type[StageConfig]] = {
    "simulation": SimulationConfig,
    "ingest": IngestConfig,
    "selection": SelectionConfig,
    "preparation": PreparationConfig,
    "search": SearchConfig,
    "training": TrainingConfig,
    "trees": TreeConfig,
    "evaluation": EvaluationConfig,
    "publication": PublicationConfig,
    "decision": DecisionConfig,
    "firmware": FirmwareConfig,
}
"""Stage → configuration model, in the order of the pipeline."""


def load_config(
    model: type[ConfigT],
    text: str | None,
    overrides: Mapping[str, Any] | None = None,
    defaults: Mapping[str, Any] | None = None,
) -> ConfigT:
    """Build a stage's configuration from JSON.

    Args:
        model: The stage's configuration class.
        text: A JSON object, or the path of a file that holds one; None takes every default.
        overrides: Values that win over those of ``text``.
        defaults: Values that those of ``text`` win over.

    Raises:
        InvalidInputError: The JSON is malformed, or a key is unknown, missing or wrong; the message names the key.
    """
    values = {**(defaults or {}), **_read_json_object(text), **(overrides or {})}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidInputError(_describe(error, model)) from None


def _read_json_object(text: str | None) -> dict[str, Any]:
    if not text:
        return {}
    is_inline = text.lstrip().startswith("{")
    where = "--config" if is_inline else f"--config file {text}"
    try:
        values = json.loads(text if is_inline else Path(text).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidInputError(
            f"{where}: cannot be read ({error.strerror}); give a JSON object or the path of one"
        ) from None
    except ValueError as error:  # bad JSON, or bytes that are not UTF-8
        raise InvalidInputError(f'{where}: not valid JSON ({error}); give an object like {{"seed": 1}}') from None
    if not isinstance(values, dict):
        raise InvalidInputError(f"{where}: expected a JSON object, got {type(values).__name__}")
    return values


def _describe(error: ValidationError, model: type[StageConfig]) -> str:
    return f"invalid {model.__name__}: " + "; ".join(_describe_problem(problem, model) for problem in error.errors())


def _describe_problem(problem: ErrorDetails, model: type[StageConfig]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{key}: unknown key; {model.__name__} knows {', '.join(model.model_fields)}"
    if not key:  # a check over several keys, whose message names them
        return problem["msg"].removeprefix("Value error, ")
    return f"{key}: {problem['msg']} (got {problem['input']!r})"
