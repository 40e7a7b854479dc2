"""TensorFlow Model Optimization's side of the techniques benchmark: tfmot.py GIVEN.npz FOUND.npz, in an
environment that has it and nothing of this project.

Polynomial decay on the Keras twin of the dense network, as TFMOT's own tutorial does it.
"""

import gzip
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ["TF_USE_LEGACY_KERAS"] = "1"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot

BATCH = 128


def network(given: Any) -> Any:
    """The dense network with the given weights; takes raw pixels, as the ONNX file does."""
    layers = tf.keras.layers
    model = tf.keras.Sequential(
        [
            layers.Input((784,)),
            layers.Dense(128, activation="relu", name="hidden"),
            layers.Dense(10, name="head"),
        ]
    )
    for name in ("hidden", "head"):
        model.get_layer(name).set_weights([given[f"{name}/weight"].T, given[f"{name}/bias"]])
    return model


def zipped(model: Any) -> int:
    """Bytes of the saved model after gzip, which is how the tutorial compares sizes."""
    with tempfile.NamedTemporaryFile(suffix=".h5") as file:
        model.save(file.name, include_optimizer=False)
        return len(gzip.compress(Path(file.name).read_bytes(), 9))


def pruned(model: Any, given: Any) -> Any:
    epochs = int(given["epochs"])
    steps = -(-len(given["image"]) // BATCH) * epochs
    schedule = tfmot.sparsity.keras.PolynomialDecay(
        float(given["initial_sparsity"]), float(given["sparsity"]), begin_step=0, end_step=steps * 3 // 4
    )
    wrapped = tfmot.sparsity.keras.prune_low_magnitude(model, pruning_schedule=schedule)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    wrapped.compile(tf.keras.optimizers.legacy.Adam(1e-3), loss)
    images = given["image"].reshape(-1, 784).astype(np.float32)
    callbacks = [tfmot.sparsity.keras.UpdatePruningStep()]
    wrapped.fit(
        images, given["label"], batch_size=BATCH, epochs=epochs, callbacks=callbacks, verbose=0, shuffle=True
    )
    return tfmot.sparsity.keras.strip_pruning(wrapped)


def main() -> None:
    with np.load(sys.argv[1]) as members:
        given = dict(members)
    tf.keras.utils.set_random_seed(int(given["seed"]))
    # pixels of 0..1 inside, as Keras trains them: what the file's first layer divides by, the input carries
    given["hidden/weight"] = given["hidden/weight"] * 255
    given["image"] = given["image"].astype(np.float32) / 255
    model = network(given)
    before = zipped(model)
    result = pruned(model, given)
    found: dict[str, Any] = {
        "keras_gzip": np.asarray(zipped(result)),
        "keras_gzip_before": np.asarray(before),
    }
    for name, scale in (("hidden", 255), ("head", 1)):
        kernel, bias = result.get_layer(name).get_weights()
        found |= {f"{name}/weight": kernel.T / scale, f"{name}/bias": bias}
    np.savez(sys.argv[2], **found)


if __name__ == "__main__":
    main()
