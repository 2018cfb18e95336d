"""A study that is small in everything: what is run, kept, told and concluded."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from personalize.miniature.files import CHECKPOINT, JUDGES, WEIGHTS, BadWeights
from personalize.miniature.subjects import Jury, Scores, prompts_for
from personalize.studies import claims, plans, report, trials
from personalize.studies.claims import Claim, Verdict
from personalize.studies.plans import SMALL, Plan
from personalize.studies.recipes import DRAWING, RECIPES, recipes_for
from personalize.studies.trials import Moment, Outcome, Trial, Trials, run_all, subject_named
from safetensors.numpy import save_file


@pytest.fixture(scope="module")
def quick():
    """Few sampling steps and few pictures of a class."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DRAWING, "steps", 2)
        for key in ("custom", "detex"):
            settings = {**RECIPES[key].settings, "prior_count": 1, "batch_size": 1}
            patch.setitem(RECIPES, key, replace(RECIPES[key], settings=settings))
        yield


@pytest.fixture(scope="module")
def bench(quick, tmp_path_factory) -> Trials:
    from personalize.studies.miniature_models import load_miniature
    from personalize.studies.studio import Studio

    made = Trials(tmp_path_factory.mktemp("study"))
    made.studio = Studio(load_miniature(), made.folder)
    made.jury = Jury.load()
    return made


@pytest.fixture(scope="module")
def wanted():
    from personalize.nodes import NODE_CLASS_MAPPINGS

    return plans.all_trials(SMALL, list(recipes_for(NODE_CLASS_MAPPINGS)))


@pytest.fixture(scope="module")
def results(bench, wanted):
    run_all(bench, wanted)
    return {trial: bench.outcome(trial) for trial in wanted}


@pytest.mark.host
@pytest.mark.slow
def test_every_trial_gives_scores_and_pictures(results) -> None:
    for trial, outcome in results.items():
        assert len(outcome.last.scores) == 1
        assert outcome.pictures().shape == (1, 128, 128, 3)
        if trial.at:
            assert [m.step for m in outcome.moments] == [1, 2]
            assert outcome.last.norm is not None and outcome.last.norm > 0
        if RECIPES[trial.recipe].settings:
            assert outcome.last.step == 2


@pytest.mark.host
def test_what_is_known_is_not_run_again(bench, wanted, results, capsys, monkeypatch) -> None:
    monkeypatch.setattr(Trials, "run", None)
    run_all(Trials(bench.folder), wanted)
    count = len(set(wanted))
    assert capsys.readouterr().out == f"{count} trials, {count} of them known\n"


@pytest.mark.host
def test_pictures_kept_are_those_that_were_drawn(bench, results) -> None:
    trial = Trial("thing 0", "class", 0, 1)
    outcome = results[trial]
    subject = subject_named("thing 0")
    (again,) = bench.jury.score(subject, prompts_for(subject, 1)[0], outcome.pictures())
    assert again.likeness == pytest.approx(outcome.mean.likeness, abs=0.02)


@pytest.mark.host
def test_pictures_judged_by_others_are_judged_again(bench, results, monkeypatch) -> None:
    trial = Trial("thing 0", "class", 0, 1)
    before = bench.known(trial)
    worthless = replace(before.last, scores=(Scores(0, 0, 0, 0, 0, 0),))
    with monkeypatch.context() as patch:
        patch.setattr(Trials, "_judges_of", lambda self, subject: "others")
        bench._keep(trial, [worthless])
    assert bench.known(trial) == before
    monkeypatch.setattr(trials, "judged", None)
    assert bench.known(trial) == before


@pytest.mark.host
def test_the_report_holds_every_table_and_picture(results, tmp_path) -> None:
    file = report.write_report(results, SMALL, "0" * 64, tmp_path)
    text = file.read_text(encoding="utf-8")
    for recipe in RECIPES.values():
        if any(RECIPES[trial.recipe] is recipe for trial in results):
            assert f"| {recipe.title} |" in text
    for name in ("things", "faces", "layers", "curves"):
        assert f"study-{name}.webp" in text and (tmp_path / f"study-{name}.webp").is_file()
    assert "layers 7-8" in text and "... from the class word" in text
    findings = [claims.judge(claim, results) for claim in claims.CLAIMS]
    for finding in findings:
        assert (
            f"| {finding.whole} | {finding.things} | {finding.faces} | {finding.verdict} |" in text
        )
    assert "all five words" in text and claims.decided(results) in text
    assert "own reference pictures" in text
    assert "{" not in text


@pytest.mark.host
def test_a_report_so_far_says_what_is_missing(results, tmp_path) -> None:
    some = {trial: o for trial, o in results.items() if trial.recipe in ("class", "ti")}
    some = {trial: outcome for trial, outcome in some.items() if not trial.at}
    text = report.write_report(some, SMALL, "0" * 64, tmp_path).read_text(encoding="utf-8")
    assert text.count("*Not run yet.*") == 4  # margin, CatVersion, layers, curves
    assert "The study goes on" not in text  # all individuals of this plan were met
    larger = replace(SMALL, things=7)
    assert "7 things and 1 faces are planned" in report.unfinished(some, larger)
    assert "study-things.webp" in text and "study-layers.webp" not in text


@pytest.mark.host
def test_a_report_of_the_very_first_trials_is_written(results, tmp_path) -> None:
    """Whenever a study is looked at: no face yet, one pair of layers, one of the curves."""
    things = {t: o for t, o in results.items() if t.subject.startswith("thing")}
    first = {t: o for t, o in things.items() if t.recipe == "class"}
    layer = next(t for t in things if dict(t.changes).get("last_layer"))
    curve = next(t for t in results if t.at)
    some = {**first, layer: results[layer], curve: results[curve]}
    text = report.write_report(some, SMALL, "0" * 64, tmp_path).read_text(encoding="utf-8")
    assert [f"study-{n}.webp" in text for n in ("things", "faces", "curves")] == [True, False, True]


@pytest.mark.host
def test_two_shares_are_the_whole(bench, wanted, results, capsys) -> None:
    run_all(bench, wanted, (0, 2))
    run_all(bench, wanted, (1, 2))
    counts = [int(line.split()[0]) for line in capsys.readouterr().out.splitlines()]
    assert sum(counts) == len(set(wanted))


# --- without the host -------------------------------------------------------------------------


def outcome(likeness: float, edits: float = 0.5, steps: tuple[int, ...] = (1,), **words) -> Outcome:
    scores = (Scores(likeness, likeness, 0.5, edits, 1.0, 0.3),)
    moments = [Moment(step, 1.0, scores, **words) for step in steps]
    return Outcome(tuple(moments), trials.FOLDER)


def compared(pairs: list[tuple[float, float]]) -> dict[Trial, Outcome]:
    """Likeness of Cross Initialization and of Textual Inversion, one pair a face."""
    results = {}
    for n, (ci, ti) in enumerate(pairs):
        results[Trial(f"face {n}", "ci", 1)] = outcome(ci)
        results[Trial(f"face {n}", "ti", 1)] = outcome(ti)
    return results


IDENTITY = claims.CLAIMS[0]


@pytest.mark.parametrize(
    "pairs, verdict",
    [
        ([(0.8, 0.5), (0.7, 0.5), (0.9, 0.5)], Verdict.HOLDS),
        ([(0.5, 0.8), (0.5, 0.7), (0.5, 0.9)], Verdict.FAILS),
        ([(0.8, 0.5), (0.5, 0.8), (0.6, 0.5)], Verdict.UNSEEN),
        ([(0.8, 0.5)], Verdict.UNSEEN),
        ([(0.5, 0.5), (0.5, 0.5)], Verdict.UNSEEN),
        ([(0.52, 0.5), (0.48, 0.5), (0.51, 0.5), (0.49, 0.5)], Verdict.SAME),
        ([(0.53, 0.5), (0.52, 0.5)], Verdict.HOLDS),
    ],
)
def test_verdicts_need_two_standard_errors(pairs, verdict) -> None:
    found = claims.judge(IDENTITY, compared(pairs))
    assert found.verdict == verdict.value
    assert found.decided is (verdict is not Verdict.UNSEEN)
    assert (found.faces, found.things.count) == (found.whole, 0)


def test_a_claim_that_was_not_run_says_so() -> None:
    found = claims.judge(IDENTITY, {})
    assert found.verdict == Verdict.UNSEEN.value and str(found.whole) == "not run"
    assert claims.table({}).count("not run") == 3 * len(claims.CLAIMS)


def test_one_subject_is_no_mean_and_was_run() -> None:
    assert str(claims.judge(IDENTITY, compared([(0.8, 0.5)])).whole) == "one subject"


def test_the_number_of_a_finding() -> None:
    claim = Claim("paper", "says", "measured", lambda results: {"a": 0.1, "b": 0.3}, "why")
    found = claims.judge(claim, {})
    assert str(found.whole) == "+0.200 ± 0.100 (2)"
    assert found.verdict == Verdict.HOLDS.value


def test_what_holds_for_things_and_not_for_faces_is_told_of_each() -> None:
    both = {"thing 1": 0.3, "thing 2": 0.2, "face 1": -0.2, "face 2": -0.3}
    found = claims.judge(Claim("paper", "says", "measured", lambda results: both, "why"), {})
    assert found.whole.verdict is Verdict.UNSEEN and found.decided
    assert found.verdict == "things: holds; faces: does not hold"


def test_no_difference_is_said_of_scores_alone() -> None:
    near = {"face 1": 0.02, "face 2": -0.02, "face 3": 0.01, "face 4": -0.01}
    claim = Claim("paper", "says", "measured", lambda results: near, "why", small=None)
    assert claims.judge(claim, {}).verdict == Verdict.UNSEEN.value


def test_only_faces_count_where_a_claim_is_about_faces() -> None:
    results = compared([(0.8, 0.5), (0.9, 0.5)])
    results[Trial("thing 0", "ci", 1)] = outcome(-1.0)
    results[Trial("thing 0", "ti", 1)] = outcome(1.0)
    assert claims.judge(IDENTITY, results).whole.count == 2


def test_the_most_pictures_count_where_a_claim_names_no_number() -> None:
    results = {
        Trial("thing 0", "ci", 1): outcome(0.1),
        Trial("thing 0", "ci", 4): outcome(0.4),
        Trial("face 0", "ci", 1): outcome(0.2),
    }
    likeness = {n: o.mean.likeness for n, o in claims.by_subject(results, "ci").items()}
    assert likeness == {"thing 0": 0.4, "face 0": 0.2}
    assert set(claims.by_subject(results, "ci", 4)) == {"thing 0"}


def test_the_overall_score_is_a_geometric_mean() -> None:
    assert claims.overall(Scores(0, 0.25, 0, 1.0, 0, 0)) == pytest.approx(0.5)
    assert claims.overall(Scores(0, -0.25, 0, 1.0, 0, 0)) == 0


def test_growth_counts_doublings_and_half_way_is_the_last_early_moment() -> None:
    grown = Outcome(
        (*outcome(0.1, steps=(1,), norm=1.0).moments, *outcome(0.2, steps=(8,), norm=4.0).moments),
        trials.FOLDER,
    )
    assert claims.growth(grown) == 2
    assert claims.halfway(outcome(0.1, steps=(1, 10, 25, 50, 100))).step == 50


def test_the_last_layers_are_held_against_the_mean_of_the_others() -> None:
    places = {2: 0.04, 4: 0.16, 6: 0.04, 8: 0.36}
    results = {
        Trial("thing 0", "catversion", changes=(("layers", 2), ("last_layer", last))): outcome(
            value, edits=1.0
        )
        for last, value in places.items()
    }
    (difference,) = claims.last_layers_against_others(results).values()
    assert difference == pytest.approx(0.6 - (0.2 + 0.4 + 0.2) / 3)


def test_a_plan_takes_things_and_faces_in_turn() -> None:
    few = Plan(things=3, faces=1, first=7)
    assert few.subjects == ["thing 7", "face 7", "thing 8", "thing 9"]
    whole = plans.all_trials(Plan(), list(RECIPES))
    of_methods = plans.methods_trials(Plan(), list(RECIPES))
    of_a_thing, of_a_face = 2 + 6 + 3 + 3, 2 + 6 + 3
    assert len(set(of_methods)) == 20 * of_a_thing + 20 * of_a_face
    subjects = [trial.subject for trial in whole]
    assert len(set(Plan().subjects) & set(Plan().tried_on)) == 0
    assert sorted(subjects, key=Plan().subjects.index) == subjects  # one after the other
    assert {trial.shots for trial in of_methods if trial.recipe == "elite"} == {1}
    assert {t.shots for t in of_methods if t.recipe == "ti" and "face" in t.subject} == {1}
    assert set(plans.margin_trials(Plan(), list(RECIPES))) <= set(whole)
    assert set(plans.catversion_trials(Plan(), list(RECIPES))) <= set(whole)


def test_both_methods_of_the_catversion_table_learn_alike() -> None:
    ours, theirs = RECIPES["catversion"].settings, RECIPES["ti"].settings
    assert all(ours[name] == theirs[name] for name in ("steps", "batch_size"))


@pytest.mark.parametrize("name", ["", "thing", "cat 3", "face x"])
def test_a_subject_that_cannot_be_is_told(name) -> None:
    with pytest.raises(ValueError, match="Expected a subject such as 'thing 3'"):
        subject_named(name)


def test_other_judges_judge_the_pictures_that_are_there(tmp_path) -> None:
    trial, before = Trial("thing 0", "class"), Trials(tmp_path)
    shutil.copytree(WEIGHTS, tmp_path / "weights")
    changed = tmp_path / "weights" / JUDGES
    changed.write_bytes(changed.read_bytes() + b"more")
    after = Trials(tmp_path, tmp_path / "weights")
    assert after.digest != before.digest
    assert after._judges_of("thing 0") != before._judges_of("thing 0")
    assert after._file(trial) == before._file(trial)


def test_other_models_draw_anew(tmp_path) -> None:
    def kept(name: str, **tensors: float) -> Path:
        folder = tmp_path / name
        shutil.copytree(WEIGHTS, folder)
        save_file({key: np.array([v]) for key, v in tensors.items()}, folder / CHECKPOINT)
        return Trials(tmp_path, folder)._file(Trial("thing 0", "class"))

    assert kept("one", unet=1.0) != kept("two", unet=2.0)
    assert kept("three", unet=1.0, logit_scale=2.0) == kept("four", unet=1.0, logit_scale=3.0)


def test_missing_weights_are_told(tmp_path) -> None:
    with pytest.raises(BadWeights, match="There is no .*miniature.safetensors"):
        Trials(tmp_path, tmp_path)


def test_errors_shrink_with_more_subjects() -> None:
    few = claims.judge(IDENTITY, compared([(0.8, 0.5), (0.6, 0.5)]))
    many = claims.judge(IDENTITY, compared([(0.8, 0.5), (0.6, 0.5)] * 8))
    assert many.whole.error < few.whole.error
    assert math.isclose(many.whole.mean, few.whole.mean)
