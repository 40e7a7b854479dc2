"""Channel pruning: cuts, and the recovery after each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from compression.engine import fold_batchnorm, normalise
from compression.model import Model
from compression.pruning.choosing import Chooser
from compression.pruning.options import Cut, Options
from compression.technique import Context
from compression.training.checkpoint import Checkpoint
from compression.training.loop import Stage
from compression.training.tuning import fine_tune

_CHOOSING = 0.2
"""Share of a step's progress."""


@dataclass
class _Record:
    """What was done so far; in checkpoints as JSON, so that it can be done again without choosing."""

    cuts: list[Cut] = field(default_factory=list)
    recovery: list[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, context: Context) -> "_Record":
        checkpoint = Checkpoint.open(context.resume)
        if checkpoint is None or "cuts" not in checkpoint.notes:
            return cls()
        cuts = [Cut(tuple(cut["dropped"]), cut["kept"]) for cut in checkpoint.notes["cuts"]]
        return cls(cuts, list(checkpoint.notes["recovery"]))

    @property
    def notes(self) -> dict[str, Any]:
        cuts = [{"dropped": list(cut.dropped), "kept": cut.kept} for cut in self.cuts]
        return {"cuts": cuts, "recovery": list(self.recovery)}

    @property
    def whole(self) -> Cut:
        """All cuts in one."""
        total = Cut()
        for cut in self.cuts:
            total = cut.after(total)
        return total


def prune(model: Model, options: Options, context: Context) -> tuple[Model, Mapping[str, Any]]:
    """The smaller model, and what there is to say of it.

    A run that was interrupted goes on from its checkpoint: earlier cuts are made again, and the weights are
    the checkpoint's.

    Errors: CompressionError `nothing_to_prune`, `target_unreachable`, `unknown_group`, `unknown_block`, and
    those of training.
    """
    start = network = fold_batchnorm(normalise(model))
    chooser = Chooser(start, options, context)
    earlier, record = _Record.of(context), _Record()
    steps = options.steps if options.given is None else 1
    for number in range(1, steps + 1):
        begin = (number - 1) / steps
        if number <= len(earlier.cuts):
            choice = chooser.given(network, earlier.cuts[number - 1], correct=False)
        elif options.given is not None:
            choice = chooser.given(network, options.given, correct=True)
        else:
            context.report(begin, f"choosing what to cut ({number} of {steps})")
            choice = chooser.best(network, 1 - options.ratio * number / steps)
        network = choice.model
        record.cuts.append(choice.cut)
        if number <= len(earlier.recovery):
            record.recovery.append(earlier.recovery[number - 1])
        elif options.training is not None and options.training.epochs:
            stage = Stage(f"cut {number}", record.notes, (begin + _CHOOSING / steps, (1 - _CHOOSING) / steps))
            network, recovery = fine_tune(
                network,
                options.training,
                context,
                teacher=context.original or start,
                stage=stage,
                renormalise=True,
            )
            record.recovery.append(recovery)
    return network, _details(start, network, record, chooser)


def _details(before: Model, after: Model, record: _Record, chooser: Chooser) -> dict[str, Any]:
    (macs, params), (fewer_macs, fewer_params) = chooser.counted(before), chooser.counted(after)
    whole = record.whole
    return {
        "groups": {
            name: {"units": size, "kept": len(whole.kept.get(name, range(size)))}
            for name, size in chooser.sizes.items()
        },
        "kept": whole.kept,
        "dropped": list(whole.dropped),
        "macs": {"before": macs, "after": fewer_macs},
        "params": {"before": params, "after": fewer_params},
        "recovery": record.recovery,
    }
