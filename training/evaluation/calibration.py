"""Whether the confidence is a probability, and what each threshold on it would do."""

from __future__ import annotations

from collections.abc import Sequence

from app.settings import Settings
from training.evaluation.markdown import decimal, table
from training.evaluation.measure import Measured
from training.evaluation.methods import SUGGEST
from training.evaluation.metrics import calibration_error, reliability
from training.evaluation.policy import REPLACE_COST, SUGGEST_COST, TRAFFIC, Judged, best_policy, effect, judge
from training.evaluation.querysets import ONE, OTHER, PART, REAL, RIGHT, TWO

Judgements = list[tuple[float, bool]]
SHOWN = (0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99)


def curves(m: Measured) -> dict[str, Judgements]:
    """(confidence, right) of every query that the reranker decided, synthetic and real apart.

    Exact catalogue names are left out: a rule answers them with confidence 1. Right means equal to what was meant.
    """
    groups = {
        "seeded typos and correct queries": (ONE, TWO, PART, OTHER),
        "real misspellings and the same spelt right": (REAL, RIGHT),
    }
    found = {}
    for name, members in groups.items():
        decided = [o for o in m.of(SUGGEST, *members) if not m.catalogue.lexicon.is_name(o.case.typed)]
        judged = [(o.reply.confidence, o.reply.text == o.case.meant) for o in decided if o.reply.confidence is not None]
        if judged:
            found[name] = judged
    return found


def judged_traffic(m: Measured) -> list[Judged]:
    """The catalogue's queries weighted to 1 000 of the traffic mix."""
    return judge((s.group, m.outcomes[SUGGEST][s.name]) for s in m.catalogue.sets)


def calibration_body(measured: Sequence[Measured], settings: Settings) -> str:
    """Markdown of the section `Calibration and policy`, over the last (largest) catalogue."""
    m = measured[-1]
    lines = [
        f"Confidence of ours, that its reading is what was meant, on the queries of the {m.catalogue.name} catalogue. Exact "
        "catalogue names are left out, a rule protects them. The baselines state no confidence. Ten equal bins; ECE is the "
        "expected calibration error.",
        "",
    ]
    for name, judged in curves(m).items():
        bins = reliability(judged)
        cells = [[f"{b.confidence:.3f}", f"{b.accuracy:.3f}", str(b.count)] for b in bins]
        lines += [f"### {name[0].upper()}{name[1:]} ({len(judged)}): ECE {calibration_error(judged):.3f}", ""]
        lines += table(("mean confidence", "share right", "queries"), cells)
    return "\n".join([*lines, *policy_lines(judged_traffic(m), settings)])


def policy_lines(judged: Sequence[Judged], settings: Settings) -> list[str]:
    """What thresholds do, over a grid, the cheapest and those in force."""
    mix = ", ".join(f"{share:.0%} {group}" for group, share in TRAFFIC.items())
    replace, suggest = best_policy(judged)
    shown = sorted({*SHOWN, replace.threshold, suggest.threshold, settings.replace_threshold, settings.suggest_threshold})
    rows = []
    for threshold in shown:
        as_replace, as_suggest = effect(judged, threshold, REPLACE_COST), effect(judged, threshold, SUGGEST_COST)
        marks = [
            text
            for text, at in (
                ("cheapest replace", replace.threshold),
                ("cheapest suggest", suggest.threshold),
                ("replace in force", settings.replace_threshold),
                ("suggest in force", settings.suggest_threshold),
            )
            if at == threshold
        ]
        rows.append(
            [f"{threshold:.2f}", decimal(as_replace.wrong), decimal(as_replace.missed), decimal(as_replace.cost, 1),
             decimal(as_suggest.cost, 1), ", ".join(marks)]
        )  # fmt: skip
    return [
        "### Thresholds",
        "",
        f"Per 1 000 queries of a traffic of {mix} (groups without queries left out, the rest scaled up): wrong actions and "
        "corrections missed if every proposal from the threshold on were acted on. The baseline is to act on none: "
        f"{effect(judged, 2.0, 0).missed:.0f} corrections missed. A wrong replacement costs as much as {REPLACE_COST:g} missed "
        f"corrections, a wrong suggestion as much as {SUGGEST_COST:.2g}: a choice, as is the mix. By these costs alone a "
        f"calibrated confidence would be acted on from {REPLACE_COST / (1 + REPLACE_COST):.2f} and "
        f"{SUGGEST_COST / (1 + SUGGEST_COST):.2f}. "
        "`training/evaluation/policy.py` finds the cheapest; thresholds chosen from this table are optimistic on it.",
        "",
        *table(("threshold", "wrong", "missed", "cost as replace", "cost as suggest", ""), rows),
    ]
