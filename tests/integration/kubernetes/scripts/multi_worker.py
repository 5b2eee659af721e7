"""Several workers fit a line, in the way of TensorFlow's tutorial on custom loops with MultiWorkerMirroredStrategy."""

import json
import os
import sys

import tensorflow as tf

tf_config = json.loads(os.environ["TF_CONFIG"])
assert tf_config["task"]["index"] == int(os.environ["WORKER_NUMBER"])
assert len(tf_config["cluster"]["worker"]) == int(os.environ["TOT_WORKERS"])

epochs = int(sys.argv[1])
per_worker_batch_size = 32
global_batch_size = per_worker_batch_size * int(os.environ["TOT_WORKERS"])

options = tf.distribute.experimental.CommunicationOptions(
    implementation=tf.distribute.experimental.CommunicationImplementation.RING
)
strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def dataset_fn(input_context):
    x = tf.random.stateless_uniform((1024,), seed=(1, 2))
    dataset = tf.data.Dataset.from_tensor_slices((x, 3 * x + 1))
    dataset = dataset.shard(input_context.num_input_pipelines, input_context.input_pipeline_id)
    return dataset.batch(input_context.get_per_replica_batch_size(global_batch_size), drop_remainder=True)


with strategy.scope():
    slope, offset = tf.Variable(0.0), tf.Variable(0.0)
dataset = strategy.distribute_datasets_from_function(dataset_fn)


@tf.function
def train_step(iterator):
    def step_fn(inputs):
        x, y = inputs
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum((slope * x + offset - y) ** 2) / global_batch_size
        for variable, gradient in zip((slope, offset), tape.gradient(loss, (slope, offset)), strict=True):
            summed = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradient)
            variable.assign_sub(0.3 * summed)
        return loss

    losses = strategy.run(step_fn, args=(next(iterator),))
    return strategy.reduce(tf.distribute.ReduceOp.SUM, losses, axis=None)


for _ in range(epochs):
    iterator = iter(dataset)
    for _ in range(1024 // global_batch_size):
        loss = train_step(iterator)
print(f"{strategy.num_replicas_in_sync} replicas: {slope.numpy():.2f} x + {offset.numpy():.2f}, loss {float(loss):.4f}")
