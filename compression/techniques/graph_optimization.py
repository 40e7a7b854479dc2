from collections.abc import Iterable
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from compression.inspection import DatasetInspection, ModelInspection
from compression.technique import Applied, Context, Proposal, Stage, Technique

if TYPE_CHECKING:
    import onnx

    from compression.model import Model

_LEFTOVERS = frozenset({"Shape", "Identity", "Dropout", "ConstantOfShape", "Range", "Size"})
_PLANS = ("", "FusionConvBN,FusionConvMul,FusionConvAdd,FusionGemm")


class GraphOptimization(Technique):
    """Folds constants, removes dead and repeated nodes, and simplifies shape arithmetic, with onnxslim.

    Exact: the result is run against the original, on calibration samples if there are any and on random ones
    if not, and is dropped, with a note in the details, where an output differs by more than `tolerance`.
    """

    stage: ClassVar[Stage] = Stage.GRAPH
    guidance: ClassVar[str] = (
        "First in a recipe, before a graph is quantized: exporters leave constants and shape arithmetic "
        "behind. It changes no result. ONNX Runtime does much of the same each time it loads a model, "
        "so expect a smaller, simpler graph rather than speed."
    )

    technique: Literal["graph_optimization"] = "graph_optimization"
    tolerance: float = Field(
        default=1e-6,
        ge=0,
        le=1e-2,
        description="largest difference allowed, relative to an output's largest value where that is above 1",
    )

    @classmethod
    def proposals(cls, model: ModelInspection, data: DatasetInspection | None) -> Iterable[Proposal]:  # noqa: ARG003
        """Where an exporter left something behind."""
        found = sum(count for name, count in model.operators.items() if name in _LEFTOVERS)
        if found:
            why = f"{found} nodes only pass on tensors or compute their shapes: nothing changes without them"
            yield Proposal(cls(), smaller=1.0, faster=1.0, drop=0.0, confidence="high", why=why)

    def apply(self, model: "Model", context: Context) -> Applied:
        from compression import samples
        from compression.model import Model

        split = context.data.split("calibration") if context.data else None
        split = split or samples.made_up(model, context.seed).split
        before = len(model.proto.graph.node)
        for plan in _PLANS:
            slimmed = Model(_slim(model, plan))
            difference = samples.difference(model, slimmed, split)
            context.report(0.9, "checking")
            if difference <= self.tolerance:
                after = len(slimmed.proto.graph.node)
                return Applied(
                    slimmed, {"nodes_before": before, "nodes_after": after, "difference": difference}
                )
        note = f"the simplified graph differs by {difference:.1e}, so the model is returned as it was"
        return Applied(model, {"nodes_before": before, "nodes_after": before, "note": note})


def _slim(model: "Model", without: str) -> "onnx.ModelProto":
    import onnxslim

    from compression.errors import CompressionError
    from compression.graph import interface
    from compression.quiet import quiet

    copy = model.copy()
    try:
        with quiet():
            slimmed: onnx.ModelProto = onnxslim.slim(
                copy, skip_fusion_patterns=without.split(",") if without else None
            )
    except Exception as error:
        raise CompressionError(
            "E_MODEL_RUN", f"the graph cannot be simplified: {type(error).__name__}"
        ) from error
    interface.restore(slimmed, model.proto)
    _drop_untyped(slimmed.graph)
    return slimmed


def _drop_untyped(graph: "onnx.GraphProto") -> None:
    """Notes on tensors whose type is unknown, as behind operators of other domains: no runtime loads them."""
    typed = [value for value in graph.value_info if value.type.tensor_type.elem_type]
    del graph.value_info[:]
    graph.value_info.extend(typed)
