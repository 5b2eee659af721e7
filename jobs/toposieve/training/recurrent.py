"""GRU and LSTM layers whose cost on CPU comes from the real particles of a batch, however far it is padded.

Events are put in order of length and run in blocks, each to the end of its longest; batches stay what they are. The
backward loop is written by hand. It has the states only, and does what needs no order (gates, slopes of the weights)
in products over several steps: more than twice as fast as what TensorFlow derives from the loop of Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import keras
import tensorflow as tf

BLOCK = 16
"""Most events in a block."""
STEPS = 3
"""Steps in a chunk, a divisor of the published 801. They are written out: XLA does not vectorise what is sliced by a
variable number of a step."""

Tensors = tuple[tf.Tensor, ...]
Arrays = tuple[tf.TensorArray, ...]


class TrimmedGRU(keras.layers.GRU):  # type: ignore[misc]
    """``keras.layers.GRU`` with its default options, for the last state of masked sequences; no slope for its input.

    Weights and results are those of the Keras layer. On GPU it is the Keras layer: cuDNN has no use for a trimmed loop.
    """

    def __init__(self, units: int, *, name: str | None = None) -> None:
        """Take no other option: the loop knows none."""
        super().__init__(units, name=name)

    def call(self, sequences: tf.Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Last state, (batch, units), of (batch, particles, features); mask: (batch, particles), true if real."""
        if initial_state is not None or tf.config.list_logical_devices("GPU"):
            return super().call(sequences, initial_state, mask, training)
        biases = tf.unstack(tf.convert_to_tensor(self.cell.bias))
        return _last_output(_GRUCell, sequences, mask, (self.cell.kernel, self.cell.recurrent_kernel, *biases))


class TrimmedLSTM(keras.layers.LSTM):  # type: ignore[misc]
    """``keras.layers.LSTM``, as :class:`TrimmedGRU` is the other."""

    def __init__(self, units: int, *, name: str | None = None) -> None:
        """Take no other option: the loop knows none."""
        super().__init__(units, name=name)

    def call(self, sequences: tf.Tensor, initial_state: Any = None, mask: Any = None, training: bool = False) -> Any:
        """Last state, (batch, units), of (batch, particles, features); mask: (batch, particles), true if real."""
        if initial_state is not None or tf.config.list_logical_devices("GPU"):
            return super().call(sequences, initial_state, mask, training)
        return _last_output(_LSTMCell, sequences, mask, (self.cell.kernel, self.cell.recurrent_kernel, self.cell.bias))


@dataclass(frozen=True)
class _GRUCell:
    """One step, by weights in the layout of Keras: columns for update, reset, candidate.

    Slopes at a step's gates are ``spread(reached) * factors``: linear in what reaches the step from those after it.
    Factors depend on states alone, so they are had for many steps at once.
    """

    kernel: tf.Tensor
    recurrent_kernel: tf.Tensor
    input_bias: tf.Tensor
    state_bias: tf.Tensor
    STATES: ClassVar[int] = 1

    def project(self, rows: tf.Tensor) -> tf.Tensor:
        """What inputs (…, features) add to the gates."""
        return _product(rows, self.kernel) + self.input_bias

    def _gates(self, projected: tf.Tensor, state: tf.Tensor) -> Tensors:
        """Update, reset, what the state adds to the candidate before the reset, candidate."""
        for_update, for_reset, for_candidate = tf.split(projected, 3, axis=-1)
        recurrent = _product(state, self.recurrent_kernel) + self.state_bias
        to_update, to_reset, to_candidate = tf.split(recurrent, 3, axis=-1)
        reset = tf.sigmoid(for_reset + to_reset)
        candidate = tf.tanh(for_candidate + reset * to_candidate)
        return tf.sigmoid(for_update + to_update), reset, to_candidate, candidate

    def after(self, projected: tf.Tensor, state: tf.Tensor) -> Tensors:
        """The state after a step: what the layer puts out, then what it keeps to itself."""
        update, _, _, candidate = self._gates(projected, state)
        return (candidate + update * (state - candidate),)

    def factors(self, projected: tf.Tensor, state: tf.Tensor) -> Tensors:
        """For the gates as inputs see them, for the gates as the state sees them, and what the methods below need."""
        update, reset, recurrent, candidate = self._gates(projected, state)
        at_candidate = (1.0 - update) * (1.0 - candidate**2)
        at_update = (state - candidate) * update * (1.0 - update)
        at_reset = at_candidate * recurrent * reset * (1.0 - reset)
        at_input = tf.concat([at_update, at_reset, at_candidate], axis=-1)
        return at_input, tf.concat([at_update, at_reset, at_candidate * reset], axis=-1), update

    def reached(self, factors: Tensors, state: tf.Tensor) -> Tensors:
        """Slopes at all that a state is made of, from those at the state."""
        return (state,)

    def spread(self, state: tf.Tensor) -> tf.Tensor:
        """For each gate."""
        return tf.concat([state] * 3, axis=-1)

    def back(self, factors: Tensors, through_gates: tf.Tensor, state: tf.Tensor) -> Tensors:
        """Slopes at the state before a step."""
        return (state * factors[2] + through_gates,)

    def gathered(self, rows: tf.Tensor, outputs: tf.Tensor, at_input: tf.Tensor, at_state: tf.Tensor) -> Tensors:
        """Slopes at the weights, from those at the gates of many steps."""
        return _gathered(rows, at_input), _gathered(outputs, at_state), _summed(at_input), _summed(at_state)


class _LSTMCell:
    """The same of an LSTM: columns for input, forget, candidate, output. A state is output and carry."""

    STATES = 2

    def __init__(self, kernel: tf.Tensor, recurrent_kernel: tf.Tensor, bias: tf.Tensor) -> None:
        self.recurrent_kernel = recurrent_kernel
        self._both = tf.concat([kernel, recurrent_kernel], axis=0)  # (features + units, 4 units): one product, not two
        self._bias = bias

    def project(self, rows: tf.Tensor) -> tf.Tensor:
        return rows

    def _gates(self, rows: tf.Tensor, output: tf.Tensor, carry: tf.Tensor) -> Tensors:
        """Input, forget, candidate, output; and the carry after them."""
        units = self.recurrent_kernel.shape[0]
        doubled = tf.constant([1.0] * (2 * units) + [2.0] * units + [1.0] * units)  # tanh(x) is 2 sigmoid(2x) - 1
        sums = _product(tf.concat([rows, output], axis=-1), self._both) + self._bias
        taken, kept, half, shown = tf.split(tf.sigmoid(sums * doubled), 4, axis=-1)
        candidate = 2.0 * half - 1.0
        return taken, kept, candidate, shown, kept * carry + taken * candidate

    def after(self, rows: tf.Tensor, output: tf.Tensor, carry: tf.Tensor) -> Tensors:
        _, _, _, shown, carry = self._gates(rows, output, carry)
        return shown * tf.tanh(carry), carry

    def factors(self, rows: tf.Tensor, output: tf.Tensor, carry: tf.Tensor) -> Tensors:
        taken, kept, candidate, shown, after = self._gates(rows, output, carry)
        size = tf.tanh(after)
        at_taken, at_kept = candidate * taken * (1.0 - taken), carry * kept * (1.0 - kept)
        at_candidate, at_shown = taken * (1.0 - candidate**2), size * shown * (1.0 - shown)
        at_gates = tf.concat([at_taken, at_kept, at_candidate, at_shown], axis=-1)
        return at_gates, at_gates, kept, shown * (1.0 - size**2)

    def reached(self, factors: Tensors, output: tf.Tensor, carry: tf.Tensor) -> Tensors:
        return output, carry + output * factors[3]

    def spread(self, output: tf.Tensor, carry: tf.Tensor) -> tf.Tensor:
        return tf.concat([carry, carry, carry, output], axis=-1)

    def back(self, factors: Tensors, through_gates: tf.Tensor, output: tf.Tensor, carry: tf.Tensor) -> Tensors:
        return through_gates, carry * factors[2]

    def gathered(self, rows: tf.Tensor, outputs: tf.Tensor, at_input: tf.Tensor, at_state: tf.Tensor) -> Tensors:
        both = _gathered(tf.concat([rows, outputs], axis=-1), at_input)
        return both[: rows.shape[-1]], both[rows.shape[-1] :], _summed(at_input)


class _Work(NamedTuple):
    """A batch, cut into blocks of events and chunks of steps; chunks of all blocks lie one after the other."""

    rows: tf.Tensor
    """(chunks of all blocks, STEPS, events, features)."""
    real: tf.Tensor
    """The same for (…, 1): 1 where there is a particle, else 0."""
    chunks: tf.Tensor
    """Of a block."""
    used: tf.Tensor
    """(blocks,): chunks that a block has particles in."""
    order: tf.Tensor
    """(blocks · events,): place in the batch of each event; those from the batch's size on are not there."""

    @property
    def blocks(self) -> tf.Tensor:
        return tf.shape(self.used)[0]

    @property
    def events(self) -> tf.Tensor:
        return tf.shape(self.rows)[2]


def _cut(sequences: tf.Tensor, mask: tf.Tensor) -> _Work:
    batch, length = tf.unstack(tf.shape(mask))
    blocks = tf.maximum(-(-batch // BLOCK), 1)
    events, chunks = -(-batch // blocks), -(-length // STEPS)
    spare = [[0, blocks * events - batch], [0, chunks * STEPS - length]]
    mask = tf.pad(mask, spare)
    stops = tf.reduce_max(tf.where(mask, tf.range(chunks * STEPS) + 1, 0), axis=1)  # (blocks * events,)
    order = tf.argsort(stops, stable=True)

    def cut(values: tf.Tensor) -> tf.Tensor:
        apart = tf.reshape(tf.gather(values, order), (blocks, events, chunks, STEPS, values.shape[-1]))
        return tf.reshape(tf.transpose(apart, (0, 2, 3, 1, 4)), (blocks * chunks, STEPS, events, values.shape[-1]))

    longest = tf.reduce_max(tf.reshape(tf.gather(stops, order), (blocks, events)), axis=1)
    rows = cut(tf.pad(sequences, [*spare, [0, 0]]))
    return _Work(rows, cut(tf.cast(mask, rows.dtype)[..., tf.newaxis]), chunks, -(-longest // STEPS), order)


def _last_output(
    make_cell: type[_GRUCell] | type[_LSTMCell], sequences: tf.Tensor, mask: Any, weights: tuple[Any, ...]
) -> tf.Tensor:
    """What a layer puts out after the last real particle of each event, (batch, units)."""
    shape = tf.shape(sequences)[:2]
    work, batch = _cut(sequences, tf.ones(shape, bool) if mask is None else mask), shape[0]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(*weights: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Tensors]]:
        cell = make_cell(*weights)
        states, last = _forward(cell, work)

        def gradient(slope: tf.Tensor) -> Tensors:
            padded = tf.pad(slope, [[0, tf.size(work.order) - batch], [0, 0]])
            return _backward(cell, work, states, tf.gather(padded, work.order), weights)

        return tf.gather(last, tf.argsort(work.order)[:batch]), gradient

    return run(*(tf.convert_to_tensor(weight) for weight in weights))


def _forward(cell: _GRUCell | _LSTMCell, work: _Work) -> tuple[Arrays, tf.Tensor]:
    """States before each step, an item for each chunk, and what each event puts out, (blocks · events, units)."""
    units = cell.recurrent_kernel.shape[0]

    def run_chunk(item: tf.Tensor, state: Tensors, arrays: Arrays) -> tuple[Tensors, Arrays]:
        projected, real = cell.project(tf.gather(work.rows, item)), tf.gather(work.real, item)
        before = []
        for step in range(STEPS):
            before.append(state)
            after = cell.after(projected[step], *state)
            state = tuple(old + real[step] * (new - old) for old, new in zip(state, after, strict=True))
        stacked = (tf.stack(each) for each in zip(*before, strict=True))
        return state, tuple(array.write(item, each) for array, each in zip(arrays, stacked, strict=True))

    def run_block(block: tf.Tensor, outputs: tf.TensorArray, arrays: Arrays) -> tuple[Any, ...]:
        start = tuple(tf.zeros((work.events, units)) for _ in arrays)
        _, state, arrays = _loop(
            lambda chunk, *_: chunk < tf.gather(work.used, block),
            lambda chunk, *so_far: (chunk + 1, *run_chunk(block * work.chunks + chunk, *so_far)),
            (0, start, arrays),
        )
        return block + 1, outputs.write(block, state[0]), arrays

    arrays = tuple(_array(work.blocks * work.chunks, STEPS, work.events, units) for _ in range(cell.STATES))
    begin = (0, _array(work.blocks, work.events, units), arrays)
    _, outputs, arrays = _loop(lambda block, *_: block < work.blocks, run_block, begin)
    return arrays, tf.reshape(outputs.stack(), (-1, units))


def _backward(cell: _GRUCell | _LSTMCell, work: _Work, arrays: Arrays, slopes: tf.Tensor, weights: Tensors) -> Tensors:
    """Slopes of the weights from those at what each event puts out, (blocks · events, units)."""
    units = cell.recurrent_kernel.shape[0]
    back_kernel = tf.transpose(cell.recurrent_kernel)
    at_outputs = tf.reshape(slopes, (work.blocks, work.events, units))

    def run_chunk(item: tf.Tensor, slopes: Tensors, sums: Tensors) -> tuple[Tensors, Tensors]:
        rows, real, states = (
            tf.gather(work.rows, item),
            tf.gather(work.real, item),
            [each.read(item) for each in arrays],
        )
        factors = cell.factors(cell.project(rows), *states)
        at_input, at_state = [], []
        for step in reversed(range(STEPS)):
            now, reaching = tuple(each[step] for each in factors), [real[step] * slope for slope in slopes]
            reached = cell.reached(now, *reaching)
            spread = cell.spread(*reached)
            at_input.append(spread * now[0])
            at_state.append(spread * now[1])
            back = cell.back(now, tf.matmul(at_state[-1], back_kernel), *reached)
            slopes = tuple(map(lambda slope, taken, given: slope - taken + given, slopes, reaching, back))
        terms = cell.gathered(rows, states[0], tf.stack(at_input[::-1]), tf.stack(at_state[::-1]))
        return slopes, tuple(total + term for total, term in zip(sums, terms, strict=True))

    def run_block(block: tf.Tensor, sums: Tensors) -> tuple[tf.Tensor, Tensors]:
        at_output = tf.gather(at_outputs, block)
        start = (at_output, *[tf.zeros_like(at_output)] * (cell.STATES - 1))
        *_, sums = _loop(
            lambda chunk, *_: chunk >= 0,
            lambda chunk, *so_far: (chunk - 1, *run_chunk(block * work.chunks + chunk, *so_far)),
            (tf.gather(work.used, block) - 1, start, sums),
        )
        return block + 1, sums

    begin = (0, tuple(tf.zeros_like(weight) for weight in weights))
    _, sums = _loop(lambda block, *_: block < work.blocks, run_block, begin)
    return tuple(sums)


def _loop(condition: Callable[..., tf.Tensor], body: Callable[..., Any], start: tuple[Any, ...]) -> tuple[Any, ...]:
    result: tuple[Any, ...] = tf.while_loop(condition, body, start, parallel_iterations=1)
    return result


def _array(*shape: tf.Tensor | int) -> tf.TensorArray:
    """Of zeros, so that XLA knows its size."""
    return tf.TensorArray(tf.float32, size=shape[0]).unstack(tf.zeros(shape))


def _product(rows: tf.Tensor, matrix: tf.Tensor) -> tf.Tensor:
    """(…, n) × (n, m) → (…, m)."""
    return tf.tensordot(rows, matrix, 1)


def _gathered(rows: tf.Tensor, slopes: tf.Tensor) -> tf.Tensor:
    """(STEPS, events, n) and (STEPS, events, m) → (n, m), summed over steps and events."""
    return tf.tensordot(rows, slopes, ((0, 1), (0, 1)))


def _summed(slopes: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(slopes, axis=(0, 1))
