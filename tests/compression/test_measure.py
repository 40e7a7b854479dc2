from pathlib import Path

import numpy as np
import onnx
import pytest
import zstandard
from onnx import helper, numpy_helper

from compression.errors import CompressionError
from compression.measure import compare, compare_all, fidelity, latency, size
from compression.measurement import Measurements
from tests.compression.conftest import Normalise, Pack, arrays, network
from tests.compression.networks import Builder, F


@pytest.fixture(autouse=True)
def _brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SECONDS", 0.05)
    monkeypatch.setattr(latency, "MOST", 60)


def noisy(model: onnx.ModelProto, share: float) -> onnx.ModelProto:
    """The same graph with disturbed weights."""
    random = np.random.default_rng(3)
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.ndim > 1:
            moved = values + share * values.std() * random.standard_normal(values.shape, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    return model


def test_a_model_against_itself(normalise: Normalise, pack: Pack) -> None:
    path, data = normalise(network("cnn")), pack(arrays("cnn"))
    result = compare(path, path, data, seed=1)
    assert result.original.metric == result.compressed.metric
    assert result.original.metric is not None
    assert result.original.metric.n == 60
    assert (result.compressed.agreement, result.compressed.kl) == (1.0, 0.0)
    assert result.compressed.sqnr_db == fidelity.CEILING_DB
    assert result.original.agreement is None
    assert {name: ratio.value for name, ratio in result.ratios.items() if name != "latency"} == dict.fromkeys(
        ("bytes", "bytes_zstd", "params", "nonzero_params", "macs", "peak_activation_bytes"), 1.0
    )
    assert {layer.sqnr_db for layer in result.layers} == {fidelity.CEILING_DB}
    assert [warning for warning in result.warnings if "by guessing" not in warning] == []
    assert result.original.bytes == path.stat().st_size
    assert Measurements.model_validate_json(result.model_dump_json()) == result


def test_several_are_measured_beside_the_same_original(normalise: Normalise, pack: Pack) -> None:
    original, data = normalise(network("cnn")), pack(arrays("cnn"))
    near, far = (normalise(noisy(network("cnn"), share)) for share in (0.01, 0.2))
    both = compare_all(original, [near, far], data)
    assert both[0].original == both[1].original
    assert (both[0].compressed.sqnr_db or 0) > (both[1].compressed.sqnr_db or 0) + 10
    assert both[0].compressed.sqnr_db == compare(original, near, data).compressed.sqnr_db


def test_what_is_lost_is_told_of_the_same_samples_and_by_class(normalise: Normalise, pack: Pack) -> None:
    paths = normalise(network("cnn")), normalise(noisy(network("cnn"), 0.5))
    images = arrays("cnn")
    (result,) = compare_all(paths[0], [paths[1]], pack(images), classes=("t-shirt", "trouser"))
    before, after, drop = result.original.metric, result.compressed.metric, result.drop
    assert before is not None
    assert after is not None
    assert drop is not None
    assert drop.ci95 is not None
    assert (drop.metric, drop.n) == ("accuracy", 60)
    assert drop.value == pytest.approx(before.value - after.value)
    assert drop.ci95[0] < drop.value < drop.ci95[1]
    assert sum(part.n for part in result.slices) == 60
    assert sum(part.n * part.drop for part in result.slices) == pytest.approx(60 * drop.value)
    assert {part.label for part in result.slices} == set(images["test/label"].tolist())
    assert {part.name for part in result.slices if part.label < 2} == {"t-shirt", "trouser"}


def test_measurements_of_before_still_load(normalise: Normalise) -> None:
    path = normalise(network("cnn"))
    stored = compare(path, path, None).model_dump(mode="json", exclude={"drop", "slices"})
    assert Measurements.model_validate(stored).drop is None


def test_a_disturbed_model_is_seen_in_every_number(normalise: Normalise, pack: Pack) -> None:
    paths = normalise(network("cnn")), normalise(noisy(network("cnn"), 0.1))
    result = compare(*paths, pack(arrays("cnn")))
    assert result.compressed.sqnr_db is not None
    assert 5 < result.compressed.sqnr_db < 40
    assert 0 < (result.compressed.agreement or 0) <= 1
    assert result.layers[0].tensor == "stem.conv"
    assert all(5 < layer.sqnr_db < 60 for layer in result.layers)


def test_tokens_and_classes_of_each(normalise: Normalise, pack: Pack) -> None:
    result = compare(
        normalise(network("transformer")),
        normalise(noisy(network("transformer"), 0.05)),
        pack(arrays("transformer")),
    )
    assert result.original.metric is not None
    assert result.original.metric.name == "token_accuracy"
    assert result.original.macs == 9 * (4 * 32 * 32 + 2 * 9 * 32 + 32 * 64 + 64 * 7)
    assert result.compressed.kl is not None
    assert result.compressed.kl > 0


def test_a_fixed_batch_two_outputs_and_no_labels(normalise: Normalise, pack: Pack) -> None:
    result = compare(
        normalise(network("lstm")), normalise(noisy(network("lstm"), 0.05)), pack(arrays("lstm"))
    )
    assert result.original.metric is None
    assert result.compressed.agreement is not None
    assert result.compressed.sqnr_db is not None
    assert result.original.macs == 7 * 4 * 24 * (12 + 24) + 24 * 5


@pytest.mark.parametrize("name", ["cnn", "transformer", "lstm"])
def test_without_data_on_random_samples_and_says_so(name: str, normalise: Normalise) -> None:
    path = normalise(network(name))
    first, second = compare(path, path, None, seed=4), compare(path, path, None, seed=4)
    assert first.warnings == second.warnings
    assert "no data set: measured on 32 random samples" in first.warnings[0]


def regression(bias: float = 0.0) -> onnx.ModelProto:
    b = Builder()
    b.node("Add", ["x", b.constant("bias", np.full(3, bias, np.float32))], "y")
    ends = [helper.make_tensor_value_info(name, F, ["n", 3]) for name in "xy"]
    return b.model(ends[:1], ends[1:])


def test_float_labels_are_scored_by_root_mean_square(normalise: Normalise, pack: Pack) -> None:
    x = np.random.default_rng(0).standard_normal((100, 3)).astype(np.float32)
    data = pack({"test/x": x, "test/label": x + 0.5})
    result = compare(normalise(regression()), normalise(regression(0.25)), data)
    before, after = result.original.metric, result.compressed.metric
    assert before is not None
    assert after is not None
    assert (before.name, before.higher_is_better) == ("rmse", False)
    assert before.value == pytest.approx(0.5, abs=1e-5)
    assert after.value == pytest.approx(0.25, abs=1e-5)


def test_classes_in_the_second_axis_decide_pixel_by_pixel(normalise: Normalise, pack: Pack) -> None:
    b = Builder()
    b.node("Conv", ["x", b.weight("w", 4, 2, 1, 1)], "y")
    ends = [helper.make_tensor_value_info(name, F, ["n", c, 6, 6]) for name, c in (("x", 2), ("y", 4))]
    model = normalise(b.model(ends[:1], ends[1:]))
    random = np.random.default_rng(0)
    x = random.standard_normal((9, 2, 6, 6)).astype(np.float32)
    result = compare(model, model, pack({"test/x": x, "test/label": random.integers(0, 4, (9, 6, 6))}))
    assert result.original.metric is not None
    assert result.original.metric.name == "token_accuracy"
    assert (result.compressed.agreement, result.compressed.kl) == (1.0, 0.0)


def test_labels_that_fit_nothing_are_said_so(normalise: Normalise, pack: Pack) -> None:
    data = pack({"test/x": np.zeros((9, 3), np.float32), "test/label": np.zeros((9, 5, 5), np.int64)})
    result = compare(normalise(regression()), normalise(regression()), data)
    assert result.original.metric is None
    assert result.warnings == ("the labels fit no output; no task metric was measured",)


def test_nan_of_the_compressed_model_alone_is_an_error(normalise: Normalise, pack: Pack) -> None:
    data = pack({"test/x": np.zeros((9, 3), np.float32)})
    with pytest.raises(CompressionError, match="E_NUMERIC"):
        compare(normalise(regression()), normalise(regression(np.nan)), data)
    result = compare(normalise(regression(np.inf)), normalise(regression(np.inf)), data)
    assert "weights of the original model hold NaN or infinity" in result.warnings


def test_latency_interval_covers_the_truth_and_shrinks() -> None:
    random = np.random.default_rng(0)

    def times(scale: float, rounds: int) -> np.ndarray:
        return scale * random.lognormal(0, 0.1, (8, rounds))

    wide, narrow = (latency.ratio(times(2, n), times(1, n), 0) for n in (20, 500))
    for ratio in (wide, narrow):
        assert ratio.ci95 is not None
        assert ratio.ci95[0] < 2 < ratio.ci95[1]
    assert wide.ci95 is not None
    assert narrow.ci95 is not None
    assert narrow.ci95[1] - narrow.ci95[0] < wide.ci95[1] - wide.ci95[0]


def test_rounds_are_interleaved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(latency, "SITTINGS", (1, 1))
    calls: list[int] = []

    def opened(index: int) -> latency.Run:
        return lambda _sample: calls.append(index)

    original, candidate = latency.interleaved(opened, 2, [{}], seed=0)
    assert original.shape == candidate.shape
    timed = calls[20:]
    assert all(set(timed[at : at + 2]) == {0, 1} for at in range(0, len(timed), 2))
    assert len({tuple(timed[at : at + 2]) for at in range(0, len(timed), 2)}) == 2


def test_download_size_is_what_zstd_makes_of_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(np.random.default_rng(0).integers(0, 20, 300_000, np.uint8).tobytes())
    frame = zstandard.ZstdCompressor(level=19).compress(path.read_bytes())
    assert size.zstd_bytes(path) == pytest.approx(len(frame), abs=16)


def test_equal_weight_for_every_output() -> None:
    seen = fidelity.Fidelity()
    small, large = np.ones((4, 3), np.float32), 1000 * np.ones((4, 3), np.float32)
    seen.add({"a": small, "b": large}, {"a": small * 1.1, "b": large})
    assert seen.sqnr_db == pytest.approx(10 * np.log10(2 / 0.01), abs=1e-3)
