"""Several workers call ``fit`` of the Keras that came with TensorFlow up to 2.15."""

import os

import numpy as np
import tensorflow as tf
import tf_keras

strategy = tf.distribute.MultiWorkerMirroredStrategy()
x = np.linspace(0, 1, 512, dtype="float32")[:, None]
with strategy.scope():
    model = tf_keras.Sequential([tf_keras.layers.Dense(1, input_shape=(1,))])
    model.compile(optimizer=tf_keras.optimizers.SGD(0.3), loss="mse")
history = model.fit(x, 3 * x + 1, batch_size=32, epochs=20, verbose=0)
kernel, bias = model.get_weights()
print(f"worker {os.environ['WORKER_NUMBER']}: {kernel[0, 0]:.2f} x + {bias[0]:.2f}, {history.history['loss'][-1]:.4f}")
