"""A search, one decision on: which trials to begin, what to prove, when it is over. Any worker may be asked,
at any time; a decision that another one was faster with is made anew.
"""

import structlog

from app.domain.errors import Conflict, ErrorRecord
from app.domain.states import JobState, SearchState
from app.services.search_runs import Look, told
from compression.errors import CompressionError, ErrorKind
from compression.measurement import Measurements
from compression.search.budget import RECOVERED, Excess, excesses, unmeasured
from compression.search.hindsight import known_by_heart
from compression.search.plan import Moment, plan
from compression.search.sampler import sample
from compression.search.space import space
from compression.search.trial import best
from workers.bench import Bench

_log = structlog.get_logger()
_LOOKS = 10
_NOTHING = "The search has ended before any trial did: give it more seconds, or a smaller data set."


def advance_search(bench: Bench, search_id: str) -> None:
    """A message about a search; one that is over or unknown is left alone."""
    for _ in range(_LOOKS):
        look = bench.insist(lambda: bench.services.searches.look(search_id))
        if look is None or _advanced(bench, look):
            return
    _log.warning("search is busy", search_id=search_id)  # the sweep asks again


def _advanced(bench: Bench, look: Look) -> bool:
    """False: somebody else was faster."""
    if look.proof is not None:
        return not look.proof.state.over or _finished(bench, look)
    over = look.search.state is SearchState.CANCELLING or look.seconds >= look.budget.seconds
    blind = None if over else _blind(look)
    if look.open and (over or blind):
        _end_trials(bench, look)
        return True
    if over:
        return _proving(bench, look)
    if blind:
        return bench.insist(lambda: bench.services.searches.finish(look, SearchState.FAILED, error=blind))
    trials = [told(look.search, trial) for trial in look.trials]
    moment = Moment(look.seconds, look.seats, look.search.seed)
    new = plan(space(look.model, look.data, look.budget), look.budget, trials, moment, sample)
    if new:
        return bench.insist(lambda: bench.services.searches.extend(look, new))
    return bool(look.open) or _proving(bench, look)


def _blind(look: Look) -> ErrorRecord | None:
    """Why no trial can be held against the limit of what may be lost: the first that was measured tells."""
    told_ = next((trial.measurements for trial in look.trials if trial.measurements is not None), None)
    if told_ is None:
        return None
    measured = Measurements.model_validate(told_)
    limits = RECOVERED.intersection(unmeasured(look.budget, measured))
    if not limits:
        return None
    why = "; ".join(measured.warnings) or "nothing was measured that it is about"
    detail = (
        f"{', '.join(sorted(limits))} cannot be held against anything: {why}. "
        "Name the budget's `task`, or limit `min_agreement` instead."
    )
    return ErrorRecord("metric_unmeasured", detail[:1000], ErrorKind.INPUT)


def _end_trials(bench: Bench, look: Look) -> None:
    for trial in look.open:
        try:
            bench.insist(lambda: bench.services.jobs.cancel(look.search.project_id, trial.job_id))  # noqa: B023
        except Conflict:
            continue  # it has just ended by itself


def _proving(bench: Bench, look: Look) -> bool:
    searches = bench.services.searches
    chosen = best(look.budget, [told(look.search, trial) for trial in look.trials])
    if chosen is not None:
        trial = look.trials[chosen.number]
        return bench.insist(lambda: searches.prove(look, trial))
    if look.search.state is SearchState.CANCELLING:
        return bench.insist(lambda: searches.finish(look, SearchState.CANCELLED))
    return bench.insist(lambda: searches.finish(look, SearchState.FAILED, error=_why(look)))


def _why(look: Look) -> ErrorRecord:
    """The first failure of a trial speaks for all."""
    for trial in look.trials:
        if trial.state is JobState.FAILED and trial.error is not None:
            detail = f"No trial has succeeded. The first one: {trial.error['detail']}"
            return ErrorRecord(trial.error["code"], detail, ErrorKind(trial.error["class"]))
    return ErrorRecord("E_TIMEOUT", _NOTHING, ErrorKind.TIMEOUT)


def _finished(bench: Bench, look: Look) -> bool:
    """By what the proof says: it alone has seen the test split."""
    searches, proof = bench.services.searches, look.proof
    assert proof is not None  # noqa: S101  for the type checker
    cancelled = look.search.state is SearchState.CANCELLING
    if proof.state is not JobState.SUCCEEDED:
        error = proof.error
        record = (
            None if error is None else ErrorRecord(error["code"], error["detail"], ErrorKind(error["class"]))
        )
        state = SearchState.CANCELLED if cancelled else SearchState.FAILED
        return bench.insist(lambda: searches.finish(look, state, error=record))
    measured = Measurements.model_validate(proof.measurements)
    reasons = [_reason(each) for each in excesses(look.budget, measured)]
    reasons += [f"{limit}: not measured" for limit in unmeasured(look.budget, measured)]
    state = SearchState.CANCELLED if cancelled else SearchState.SUCCEEDED
    outcome = "unmet" if reasons else "met"
    return bench.insist(lambda: searches.finish(look, state, outcome, reasons, _notes(look, measured)))


def _notes(look: Look, proof: Measurements) -> list[str]:
    search = look.search
    judged = None if search.chosen is None else look.trials[search.chosen].measurements
    if judged is None:
        return []
    note = known_by_heart(Measurements.model_validate(judged), proof, search.judged_by)
    return [] if note is None else [note]


def _reason(excess: Excess) -> str:
    asked = f"{excess.limit} {excess.allowed:.6g} is not kept: {excess.value:.6g}"
    return f"{asked}; no trial comes nearer to all limits"


def after(bench: Bench, search_id: str) -> None:
    """A job of the search has ended here; a search that cannot go on now is asked again by the sweep."""
    try:
        advance_search(bench, search_id)
    except CompressionError as error:
        _log.warning("search waits", search_id=search_id, reason=error.code)
    except Exception:  # noqa: BLE001  a bug of the planner must not end the worker
        _log.exception("search broke")
