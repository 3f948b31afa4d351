"""Runs in this process: pausing, damage, failures, and what a repeated command makes of them."""

import dataclasses
import json
import logging
import signal

import jax.numpy as jnp
import numpy as np
import pytest

from command_line import STUDIES, here, is_one_line, only_run, results_of
from innerloop.core.errors import InnerloopError
from innerloop.lab.progress import Lines
from innerloop.lab.runner import continue_run, run_study
from innerloop.lab.store import Run, locked
from innerloop.studies import load
from innerloop.train.loop import fit

NOISY = load(str(STUDIES / "noisy.py"))
FAILING = load(str(STUDIES / "failing.py"))
SMALL = dataclasses.replace(NOISY.configurations["smoke"], steps=40)


class Script(Lines):
    """Collects what is said, and presses Ctrl-C when a step of a variant is reached."""

    def __init__(self, stop_in=None, at=0, presses=1):
        super().__init__()
        self.stop_in, self.at, self.presses = stop_in, at, presses
        self.said = []
        self.variant = ""

    def begin(self, variant, number, total):
        self.variant = variant
        if self.stop_in == "before " + variant:
            signal.raise_signal(signal.SIGINT)

    def update(self, progress):
        if self.variant == self.stop_in and progress.step >= self.at and not progress.compiling:
            for _ in range(self.presses):
                signal.raise_signal(signal.SIGINT)

    def tell(self, text):
        self.said.append(text)


def run_noisy(root, *, config=SMALL, **script):
    display = Script(**script)
    outcome = run_study(
        NOISY, scale="smoke", config=config, seeds=(0, 1), root=root, checkpoint_seconds=0.0, display=display
    )
    return outcome, display.said


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    outcome, said = run_noisy(tmp_path_factory.mktemp("uninterrupted"))
    assert said == [] and not outcome.errors and not outcome.paused
    assert [judgement.verdict for judgement in outcome.judgements] == ["holds"]
    return results_of(outcome.run.path)


def test_records_are_complete(uninterrupted):
    lines = [json.loads(line) for line in uninterrupted["cells/walking-s1/metrics.jsonl"].splitlines()]
    steps = {phase: [line["step"] for line in lines if line["phase"] == phase] for phase in ("train", "evaluate")}
    assert steps == {"train": [5, 10, 15, 20, 25, 30, 35, 40], "evaluate": [0, 20, 40]}
    assert lines[-1]["phase"] == "final"


@pytest.mark.parametrize(("variant", "at"), [("contracting", 10), ("walking", 30)])
def test_paused_and_repeated(tmp_path, uninterrupted, variant, at):
    outcome, said = run_noisy(tmp_path, stop_in=variant, at=at)
    assert outcome.paused and not outcome.errors
    assert said == [
        "stopping: saving a checkpoint (once more to stop at once)",
        f"stopped at step {at} of 40 of {variant}",
    ]
    assert outcome.judgements[0].verdict == "not measured" or variant == "walking"
    outcome, said = run_noisy(tmp_path)
    assert not outcome.paused and said == []
    assert results_of(outcome.run.path) == uninterrupted


def test_a_pause_between_variants_is_heard(tmp_path, uninterrupted):
    """Also by a study that does not train, in which nobody asks in between."""

    def measure(config, cells):
        cells.record({"size": np.ones(len(cells.seeds))})

    study = dataclasses.replace(NOISY, measure=measure)
    display = Script(stop_in="before contracting")
    outcome = run_study(study, scale="smoke", config=SMALL, seeds=(0,), root=tmp_path, display=display)
    assert outcome.paused
    assert outcome.run.cell("contracting", 0).finished and not outcome.run.cell("walking", 0).finished


def test_twice_ctrl_c_stops_at_once(tmp_path, uninterrupted):
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run_noisy(tmp_path, stop_in="contracting", at=10, presses=2)
    assert signal.getsignal(signal.SIGINT) is before
    outcome, _ = run_noisy(tmp_path)
    assert results_of(outcome.run.path) == uninterrupted


def test_a_finished_run_is_only_read(tmp_path, uninterrupted):
    run_noisy(tmp_path)
    display = Script()
    began = []
    display.begin = lambda *arguments: began.append(arguments)
    outcome = run_study(NOISY, scale="smoke", config=SMALL, seeds=(0, 1), root=tmp_path, display=display)
    assert began == [] and results_of(outcome.run.path) == uninterrupted


@pytest.mark.parametrize("torn", [b'{"step":25,"pha', b'{"step":25,"phase":"train","norm":1.0', b"\xff\n"])
def test_torn_last_line(tmp_path, uninterrupted, torn):
    outcome, _ = run_noisy(tmp_path, stop_in="contracting", at=20)
    path = outcome.run.cell("contracting", 0).path / "metrics.jsonl"
    with open(path, "ab") as file:
        file.write(torn)
    outcome, said = run_noisy(tmp_path)
    assert len(said) == 1 and "torn last line" in said[0] and str(path) in said[0]
    assert results_of(outcome.run.path) == uninterrupted


def test_lines_after_the_checkpoint_are_not_written_twice(tmp_path, uninterrupted):
    """A run killed after its last checkpoint measures some steps again."""
    outcome, _ = run_noisy(tmp_path, stop_in="contracting", at=25)
    checkpoints = outcome.run.path / "checkpoints" / "contracting" / "train"
    newest = max(checkpoints.iterdir(), key=lambda path: int(path.name))
    for path in newest.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    outcome, said = run_noisy(tmp_path)
    assert len(said) == 1 and "step 25 is damaged" in said[0] and "going on from the one before" in said[0]
    assert results_of(outcome.run.path) == uninterrupted
    assert (outcome.run.path / "checkpoints" / "contracting" / "train-damaged" / "25-0").is_dir()


def test_other_results_of_the_same_steps_are_reported(tmp_path):
    outcome, _ = run_noisy(tmp_path, stop_in="contracting", at=10)
    path = outcome.run.cell("contracting", 0).path / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line.replace('"norm":', '"norm":1') for line in lines))
    for folder in (outcome.run.path / "checkpoints").rglob("train/*"):
        if folder.parent.name == "train":
            __import__("shutil").rmtree(folder)
    outcome, said = run_noisy(tmp_path)
    assert len(said) == 2 and all("another result" in text for text in said)
    steps = [line["step"] for line in outcome.run.cell("contracting", 0).read_metrics() if line["phase"] == "train"]
    assert sorted(set(steps)) == [5, 10, 15, 20, 25, 30, 35, 40] and len(steps) == 10


def test_the_training_chunk_is_compiled_once_per_variant(tmp_path, caplog):
    jax = pytest.importorskip("jax")
    jax.config.update("jax_log_compiles", True)
    try:
        with caplog.at_level(logging.WARNING):
            run_noisy(tmp_path)
    finally:
        jax.config.update("jax_log_compiles", False)
    finished = [r.getMessage() for r in caplog.records if "Finished XLA compilation" in r.getMessage()]
    assert sum("run_chunk" in message for message in finished) == 2, finished
    assert sum("run_evaluation" in message for message in finished) == 2, finished


# ---- failures ----


def run_failing(root, display, config=None, **options):
    config = config or FAILING.configurations["smoke"]
    return run_study(FAILING, scale="smoke", config=config, seeds=(0, 1, 2), root=root, display=display, **options)


def test_nan_and_exception_take_nobody_with_them(tmp_path, monkeypatch):
    display = Script()
    outcome = run_failing(tmp_path, display, checkpoint_seconds=0.0)
    run = outcome.run
    # The seed that failed is named, with its step; the other seeds of the variant are whole.
    assert "cell nan-s1: not finite at step 12; the other seeds go on" in display.said
    outcomes = {path.parent.name: json.loads(path.read_text()) for path in run.path.glob("cells/*/done.json")}
    assert outcomes["nan-s1"] == {"status": "failed", "reason": "a value was not finite", "step": 12}
    assert {name for name, one in outcomes.items() if one["status"] == "finished"} == {
        "nan-s0", "nan-s2", "fine-s0", "fine-s1", "fine-s2",
    }  # fmt: skip
    [kept] = (run.path / "checkpoints" / "nan" / "train-before-failure").iterdir()
    assert int(kept.name) <= 12
    # The variant that raised is tried again when the command is repeated; its traceback is in the log alone.
    assert outcome.errors == ["raises: RuntimeError: this variant is broken"]
    assert not any("Traceback" in text for text in display.said)
    log = (run.path / "log.txt").read_text()
    assert log.count("Traceback") == 1 and "and says so in two lines" in log
    verdicts = {judgement.id: judgement for judgement in outcome.judgements}
    assert verdicts["fine"].verdict == "holds"
    assert verdicts["raises"].verdict == "not measured"
    assert verdicts["nan"].verdict == "undecided" and "nan-s1 failed at step 12" in verdicts["nan"].reason
    before = results_of(run.path)

    monkeypatch.setenv("INNERLOOP_TEST_MENDED", "1")
    display = Script()
    began = []
    display.begin = lambda variant, *_: began.append(variant)
    outcome = run_failing(tmp_path, display)
    assert began == ["raises"] and outcome.errors == []
    after = results_of(run.path)
    assert {name: after[name] for name in before if name.startswith("cells")} == {
        name: content for name, content in before.items() if name.startswith("cells")
    }
    assert {judgement.id: judgement.verdict for judgement in outcome.judgements} == {
        "nan": "undecided", "raises": "holds", "fine": "holds",
    }  # fmt: skip


@pytest.mark.parametrize("chunk_seconds", [0.0, 10.0])
def test_the_step_of_a_failure_does_not_depend_on_chunks(chunk_seconds):
    """Nor on where a resumed training began: a carry that no info shows is looked at once per record."""

    def step(key, carry):
        return carry * 10.0, {"constant": jnp.ones(())}

    start = jnp.asarray([1.0, 1e20])
    result = fit(step, start, steps=100, seeds=(3, 4), record_every=4, chunk_seconds=chunk_seconds)
    assert result.failures == {3: 39, 4: 19}


def test_nan_in_every_seed_ends_the_variant(tmp_path):
    display = Script()
    outcome = run_failing(tmp_path, display, FAILING.configurations["smoke"].__class__(("nan", "fine"), True))
    assert sum("no seed is left" in text for text in display.said) == 3
    assert all(outcome.run.cell("nan", seed).finished for seed in (0, 1, 2))
    assert outcome.judgements[0].verdict == "undecided"
    assert outcome.run.cell("fine", 0).finished and not outcome.errors


def test_failure_is_remembered_over_a_pause(tmp_path):
    config = FAILING.configurations["smoke"].__class__(("nan",))
    display = Script(stop_in="nan", at=18)
    outcome = run_failing(tmp_path, display, config, checkpoint_seconds=0.0)
    assert outcome.paused
    outcome = run_failing(tmp_path, Script(), config)
    assert json.loads((outcome.run.cell("nan", 1).path / "done.json").read_text())["step"] == 12


def test_a_missing_file_breaks_one_variant_only(tmp_path):
    def measure(config, cells):
        if cells.variant == "contracting":
            open(tmp_path / "no-such-data").close()
        cells.record({"size": np.ones(len(cells.seeds))})

    study = dataclasses.replace(NOISY, measure=measure)
    outcome = run_study(study, scale="smoke", config=SMALL, seeds=(0,), root=tmp_path, display=Script())
    assert len(outcome.errors) == 1 and "no-such-data" in outcome.errors[0]
    assert outcome.run.cell("walking", 0).finished


def test_running_out_of_memory_is_explained(tmp_path):
    def measure(config, cells):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 17179869184 bytes.")

    study = dataclasses.replace(NOISY, measure=measure)
    outcome = run_study(study, scale="smoke", config=SMALL, seeds=(0,), root=tmp_path, display=Script())
    assert all("lower the batch size or the number of seeds" in error for error in outcome.errors)


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        (lambda cells: cells.record({"step": np.ones(2)}), "cannot be called 'step'"),
        (lambda cells: cells.record({"size": np.ones(3)}), "one value for each of 2 seeds"),
        (lambda cells: cells.save(a=np.ones(3)), "leading axis of 2 seeds"),
        (
            lambda cells: [cells.fit(lambda k, c: (c, {}), np.zeros(2), steps=1) for _ in range(2)],
            "trains 'train' twice",
        ),
    ],
)
def test_mistakes_in_a_study_are_named(tmp_path, mistake, words):
    study = dataclasses.replace(
        NOISY, variants=lambda config: ("one",), measure=lambda config, cells: mistake(cells), claims=()
    )
    outcome = run_study(study, scale="smoke", config=SMALL, seeds=(0, 1), root=tmp_path, display=Script())
    assert len(outcome.errors) == 1 and words in outcome.errors[0]


def test_two_records_of_one_step_are_both_kept(tmp_path):
    def measure(config, cells):
        cells.record({"size": np.ones(2)})
        cells.record({"weight": 2 * np.ones(2)})

    study = dataclasses.replace(NOISY, measure=measure)
    display = Script()
    outcome = run_study(study, scale="smoke", config=SMALL, seeds=(0, 1), root=tmp_path, display=display)
    from innerloop.lab.store import Records

    records = Records(outcome.run, SMALL)
    np.testing.assert_array_equal(records.final("walking", "size"), [1.0, 1.0])
    np.testing.assert_array_equal(records.final("walking", "weight"), [2.0, 2.0])
    assert display.said == []


# ---- two at once, newer formats ----


def test_the_same_run_is_refused_to_a_second_process(tmp_path, uninterrupted, capsys):
    outcome, _ = run_noisy(tmp_path, stop_in="contracting", at=10)
    before = results_of(outcome.run.path)
    with locked(outcome.run), pytest.raises(InnerloopError, match="being run by another process"):
        continue_run(NOISY, outcome.run, display=Script())
    assert results_of(outcome.run.path) == before
    outcome, _ = run_noisy(tmp_path)
    assert results_of(outcome.run.path) == uninterrupted


def test_a_file_system_without_locks_still_runs(tmp_path, monkeypatch):
    import fcntl

    def no_locks(*arguments):
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    outcome, _ = run_noisy(tmp_path)
    assert outcome.judgements[0].verdict == "holds"


def test_a_run_of_a_newer_version_is_refused_and_reported(tmp_path, capsys):
    outcome, _ = run_noisy(tmp_path)
    newer, other = outcome.run.path, tmp_path / "noisy" / "smoke-00000000"
    import shutil

    shutil.copytree(newer, other)
    config = json.loads((newer / "config.json").read_text())
    (newer / "config.json").write_text(json.dumps({**config, "format": 99}))
    study = STUDIES / "noisy.py"
    for command in (
        ("resume", newer, "--study", study),
        ("run", study, "--steps", "40", "--runs", tmp_path),
        ("export", newer),
    ):
        result = here(capsys, *command)
        assert result.code == 1 and "newer innerloop (format 99" in result.err, result.err
        assert is_one_line(result.err) and "upgrade" in result.err
    result = here(capsys, "report", study, "--runs", tmp_path)
    assert result.code == 0 and is_one_line(result.err) and "format 99" in result.err
    page = (tmp_path / "report.html").read_text()
    assert "smoke-00000000" in page and "format 99" in page


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "1"}', '{"format": 1}', '{"format": 1, "study": "a"}'])
def test_a_damaged_configuration_is_refused(tmp_path, capsys, content):
    folder = tmp_path / "noisy" / "smoke-00000000"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(content)
    result = here(capsys, "resume", folder, "--study", STUDIES / "noisy.py")
    assert result.code == 1 and is_one_line(result.err) and "config.json" in result.err


def test_a_stored_path_is_never_executed(tmp_path, capsys):
    """A run folder of somebody else cannot make us run a file that it names."""
    (tmp_path / "evil.py").write_text("raise SystemExit('executed')")
    outcome, _ = run_noisy(tmp_path)
    config = json.loads((outcome.run.path / "config.json").read_text())
    (outcome.run.path / "config.json").write_text(json.dumps({**config, "study": str(tmp_path / "evil.py")}))
    result = here(capsys, "resume", outcome.run.path)
    assert result.code == 2 and is_one_line(result.err) and "--study" in result.err
    assert here(capsys, "report", "--runs", tmp_path).code == 0


def test_resume_refuses_another_study(tmp_path, capsys):
    outcome, _ = run_noisy(tmp_path)
    result = here(capsys, "resume", outcome.run.path, "--study", STUDIES / "failing.py")
    assert result.code == 2 and is_one_line(result.err) and "'noisy'" in result.err and "'failing'" in result.err


def test_a_run_of_an_older_study_is_refused_by_name(tmp_path, capsys):
    """A field that the study has no longer."""
    outcome, _ = run_noisy(tmp_path)
    path = Run.open(outcome.run.path).path / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "config": {**config["config"], "widht": 3}}))
    result = here(capsys, "resume", only_run(tmp_path), "--study", STUDIES / "noisy.py")
    assert result.code == 2 and is_one_line(result.err) and "did you mean 'width'" in result.err
