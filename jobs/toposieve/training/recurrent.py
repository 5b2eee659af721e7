"""GRU and LSTM layers whose cost on CPU comes from the real particles of a batch, however far it is padded.

Events are put in order of length and run in blocks, each to the end of its longest; batches stay what they are. The
backward loop is written by hand. It has the states only, and does what needs no order (gates, slopes of the weights)
in products over many steps: twice as fast as what TensorFlow derives from the loop of Keras.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

BLOCK = 32
"""Most events in a block."""
STEPS = 16
"""Steps between which nothing but the states is passed on."""

Tensors = tuple[tf.Tensor, ...]


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


class _GRUCell(NamedTuple):
    """One step, by weights in the layout of Keras: columns for update, reset, candidate.

    Slopes at a step's gates are ``spread(reached) * factors``: linear in what reaches the step from those after it.
    Factors depend on states alone, so they are had for many steps at once.
    """

    kernel: tf.Tensor
    recurrent_kernel: tf.Tensor
    input_bias: tf.Tensor
    state_bias: tf.Tensor

    @property
    def width(self) -> int:
        """Of a state: what the layer puts out, then what it keeps to itself."""
        return int(self.recurrent_kernel.shape[0])

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

    def after(self, projected: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        """The state after a step."""
        update, _, _, candidate = self._gates(projected, state)
        return candidate + update * (state - candidate)

    def factors(self, projected: tf.Tensor, state: tf.Tensor) -> Tensors:
        """For the gates as inputs see them, for the gates as the state sees them, and what the methods below need."""
        update, reset, recurrent, candidate = self._gates(projected, state)
        at_candidate = (1.0 - update) * (1.0 - candidate**2)
        at_update = (state - candidate) * update * (1.0 - update)
        at_reset = at_candidate * recurrent * reset * (1.0 - reset)
        at_input = tf.concat([at_update, at_reset, at_candidate], axis=-1)
        return at_input, tf.concat([at_update, at_reset, at_candidate * reset], axis=-1), update

    def reached(self, slope: tf.Tensor, factors: Tensors) -> tf.Tensor:
        """Slope at all that a state is made of, from the slope at the state."""
        return slope

    def spread(self, reached: tf.Tensor) -> tf.Tensor:
        """For each gate."""
        return tf.concat([reached] * 3, axis=-1)

    def back(self, reached: tf.Tensor, factors: Tensors, through_gates: tf.Tensor) -> tf.Tensor:
        """Slope at the state before a step."""
        return reached * factors[2] + through_gates

    def gathered(self, rows: tf.Tensor, states: tf.Tensor, at_input: tf.Tensor, at_state: tf.Tensor) -> Tensors:
        """Slopes at the weights, from those at the gates of many steps."""
        return _gathered(rows, at_input), _gathered(states, at_state), _summed(at_input), _summed(at_state)


class _LSTMCell(NamedTuple):
    """The same of an LSTM: columns for input, forget, candidate, output. A state is output and carry."""

    kernel: tf.Tensor
    recurrent_kernel: tf.Tensor
    bias: tf.Tensor

    @property
    def width(self) -> int:
        return 2 * int(self.recurrent_kernel.shape[0])

    def project(self, rows: tf.Tensor) -> tf.Tensor:
        return _product(rows, self.kernel) + self.bias

    def _gates(self, projected: tf.Tensor, state: tf.Tensor) -> Tensors:
        """Input, forget, candidate, output; and the carry after them."""
        shown, carry = tf.split(state, 2, axis=-1)
        sums = tf.split(projected + _product(shown, self.recurrent_kernel), 4, axis=-1)
        taken, kept, output = (tf.sigmoid(sums[gate]) for gate in (0, 1, 3))
        candidate = tf.tanh(sums[2])
        return taken, kept, candidate, output, kept * carry + taken * candidate

    def after(self, projected: tf.Tensor, state: tf.Tensor) -> tf.Tensor:
        _, _, _, output, carry = self._gates(projected, state)
        return tf.concat([output * tf.tanh(carry), carry], axis=-1)

    def factors(self, projected: tf.Tensor, state: tf.Tensor) -> Tensors:
        taken, kept, candidate, output, after = self._gates(projected, state)
        _, carry = tf.split(state, 2, axis=-1)
        shown = tf.tanh(after)
        at_taken, at_kept = candidate * taken * (1.0 - taken), carry * kept * (1.0 - kept)
        at_candidate, at_output = taken * (1.0 - candidate**2), shown * output * (1.0 - output)
        at_gates = tf.concat([at_taken, at_kept, at_candidate, at_output], axis=-1)
        return at_gates, at_gates, kept, output * (1.0 - shown**2)

    def reached(self, slope: tf.Tensor, factors: Tensors) -> tf.Tensor:
        output, carry = tf.split(slope, 2, axis=-1)
        return tf.concat([output, carry + output * factors[3]], axis=-1)

    def spread(self, reached: tf.Tensor) -> tf.Tensor:
        output, carry = tf.split(reached, 2, axis=-1)
        return tf.concat([carry, carry, carry, output], axis=-1)

    def back(self, reached: tf.Tensor, factors: Tensors, through_gates: tf.Tensor) -> tf.Tensor:
        _, carry = tf.split(reached, 2, axis=-1)
        return tf.concat([through_gates, carry * factors[2]], axis=-1)

    def gathered(self, rows: tf.Tensor, states: tf.Tensor, at_input: tf.Tensor, at_state: tf.Tensor) -> Tensors:
        outputs, _ = tf.split(states, 2, axis=-1)
        return _gathered(rows, at_input), _gathered(outputs, at_state), _summed(at_input)


class _Work(NamedTuple):
    """A batch, cut into blocks of events and chunks of steps; chunks of all blocks lie one after the other."""

    rows: tf.Tensor
    """(chunks of all blocks, STEPS, events, features)."""
    real: tf.Tensor
    """The same for (…, 1): whether there is a particle."""
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
    return _Work(rows, cut(mask[..., tf.newaxis]), chunks, -(-longest // STEPS), order)


def _last_output(
    make_cell: type[_GRUCell] | type[_LSTMCell], sequences: tf.Tensor, mask: Any, weights: tuple[Any, ...]
) -> tf.Tensor:
    """What a layer puts out after the last real particle of each event, (batch, units)."""
    shape = tf.shape(sequences)[:2]
    work, batch = _cut(sequences, tf.ones(shape, bool) if mask is None else mask), shape[0]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def run(*weights: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], Tensors]]:
        cell = make_cell(*weights)
        units = cell.recurrent_kernel.shape[0]
        states, last = _forward(cell, work)
        outputs = tf.gather(last[:, :units], tf.argsort(work.order)[:batch])

        def gradient(slope: tf.Tensor) -> Tensors:
            spare = [[0, tf.size(work.order) - batch], [0, cell.width - units]]
            return _backward(cell, work, states, tf.gather(tf.pad(slope, spare), work.order), weights)

        return outputs, gradient

    return run(*(tf.convert_to_tensor(weight) for weight in weights))


def _forward(cell: _GRUCell | _LSTMCell, work: _Work) -> tuple[tf.TensorArray, tf.Tensor]:
    """States before each step, an item for each chunk, and the last of each event, (blocks · events, width)."""
    shape = (work.events, cell.width)

    def run_chunk(item: tf.Tensor, state: tf.Tensor, states: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        projected, real = cell.project(tf.gather(work.rows, item)), tf.gather(work.real, item)

        def run_step(step: tf.Tensor, state: tf.Tensor, before: tf.TensorArray) -> Tensors:
            after = cell.after(tf.gather(projected, step), state)
            return step + 1, tf.where(tf.gather(real, step), after, state), before.write(step, state)

        _, state, before = _loop(lambda step, *_: step < STEPS, run_step, (0, state, _array(STEPS, *shape)))
        return state, states.write(item, before.stack())

    def run_block(block: tf.Tensor, lasts: tf.TensorArray, states: tf.TensorArray) -> tuple[Any, ...]:
        start = (0, tf.zeros(shape), states)
        _, state, states = _loop(
            lambda chunk, *_: chunk < tf.gather(work.used, block),
            lambda chunk, *so_far: (chunk + 1, *run_chunk(block * work.chunks + chunk, *so_far)),
            start,
        )
        return block + 1, lasts.write(block, state), states

    begin = (0, _array(work.blocks, *shape), _array(work.blocks * work.chunks, STEPS, *shape))
    _, lasts, states = _loop(lambda block, *_: block < work.blocks, run_block, begin)
    return states, tf.reshape(lasts.stack(), (-1, cell.width))


def _backward(
    cell: _GRUCell | _LSTMCell, work: _Work, states: tf.TensorArray, slopes: tf.Tensor, weights: Tensors
) -> Tensors:
    """Slopes of the weights from those at the last states, (blocks · events, width)."""

    def run_chunk(item: tf.Tensor, slope: tf.Tensor, *sums: tf.Tensor) -> Tensors:
        rows, real, before = tf.gather(work.rows, item), tf.gather(work.real, item), states.read(item)
        factors = cell.factors(cell.project(rows), before)

        def run_step(step: tf.Tensor, slope: tf.Tensor, reached: tf.TensorArray) -> tuple[Any, ...]:
            now, is_real = tuple(tf.gather(each, step) for each in factors), tf.gather(real, step)
            here = cell.reached(tf.where(is_real, slope, 0.0), now)
            through_gates = tf.matmul(cell.spread(here) * now[1], cell.recurrent_kernel, transpose_b=True)
            passed = tf.where(is_real, cell.back(here, now, through_gates), slope)
            return step - 1, passed, reached.write(step, here)

        start = (STEPS - 1, slope, _array(STEPS, work.events, cell.width))
        _, slope, reached = _loop(lambda step, *_: step >= 0, run_step, start)
        spread = cell.spread(reached.stack())  # (STEPS, events, gates)
        terms = cell.gathered(rows, before, spread * factors[0], spread * factors[1])
        return slope, *(total + term for total, term in zip(sums, terms, strict=True))

    def run_block(block: tf.Tensor, *sums: tf.Tensor) -> Tensors:
        result = _loop(
            lambda chunk, *_: chunk >= 0,
            lambda chunk, *so_far: (chunk - 1, *run_chunk(block * work.chunks + chunk, *so_far)),
            (tf.gather(work.used, block) - 1, tf.gather(apart, block), *sums),
        )
        return block + 1, *result[2:]

    apart = tf.reshape(slopes, (work.blocks, work.events, cell.width))
    begin = (0, *(tf.zeros_like(weight) for weight in weights))
    return tuple(_loop(lambda block, *_: block < work.blocks, run_block, begin)[1:])


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
