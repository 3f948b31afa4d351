import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest

from innerloop.lab.catalogue import PAPERS
from innerloop.lab.report.board import Measured, read_board
from innerloop.lab.report.page import TEMPLATES, build_report, format_number, interval, strip
from report_runs import LAPTOP_CLAIMS, NASTY, Settings, claim, make_root, make_run, make_study, write_claims

VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Every element with its attributes and the text in it, and whether the tags are balanced."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag, attrs):
        self.elements.append({"tag": tag, "text": "", **dict(attrs)})

    def handle_endtag(self, tag):
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data):
        for element in self.open:
            element["text"] += data

    def all(self, tag, **attributes):
        return [e for e in self.elements if e["tag"] == tag and attributes.items() <= e.items()]

    def with_class(self, name):
        return [e for e in self.elements if name in (e.get("class") or "").split()]


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    """A root with runs of every kind, and its report."""
    root = tmp_path_factory.mktemp("root")
    studies = make_root(root, PAPERS)
    html = build_report(root, PAPERS, studies, built=("icl-gd", "late-phase", "cocoa", "mesanet")).read_text()
    return root, studies, html, Page(html)


def report_of(root, studies=None, **more):
    html = build_report(root, PAPERS, studies or {}, **more).read_text()
    return html, Page(html)


def test_the_board_shows_all_studies_as_they_are(full):
    *_, page = full
    cards = {re.findall(r"[a-z0-9-]+", card["text"])[0]: card for card in page.with_class("card")}
    assert set(cards) == set(PAPERS) and len(cards) == 24
    kinds = {name: card["class"].split()[1] for name, card in cards.items()}
    assert {name for name, kind in kinds.items() if kind == "run"} == {"icl-gd", "cocoa", "late-phase"}
    assert {name for name, kind in kinds.items() if kind == "built"} == {"mesanet"}
    assert "not run yet" in cards["mesanet"]["text"]
    absent = " ".join(cards["impact"]["text"].split())
    assert "Challenges for Using Impact Regularizers" in absent and "2021" in absent and "2101.12509" in absent
    assert "not in this version" in absent
    assert len(page.with_class("absent")) == 20


def test_wings_follow_the_house(full):
    *_, page = full
    assert [wing["text"].split("\n")[0] for wing in page.all("h3")][:6] == [
        "Sequence layers",
        "Tasks",
        "Learning rules",
        "Reinforcement learning",
        "Bayesian agents",
        "Structured entities",
    ]


def test_every_verdict_has_a_word_and_a_shape_of_its_own(full):
    _, _, html, page = full
    words = {verdict["text"].strip() for verdict in page.with_class("verdict")}
    assert words == {"holds", "fails", "undecided"}, "claims that were not measured are listed, not drawn"
    assert "Not measured in this run" in html
    for word in (*words, "not measured"):
        (symbol,) = re.findall(rf'<symbol id="mark-{word.replace(" ", "-")}".*?</symbol>', html)
        assert symbol.count("<") > 2
    marks = page.all("span", **{"class": "marks"})[0]
    assert "recurrent-layers: fails" in marks["aria-label"] and "gd-loss: holds" in marks["aria-label"]


def test_nothing_read_becomes_markup(full):
    _, _, html, page = full
    assert [script["text"] for script in page.all("script")] == [(TEMPLATES / "report.js").read_text()]
    assert NASTY not in html and html.count("&lt;script&gt;alert(") > 8
    assert not page.all("img") and not [e for e in page.elements if any(name.startswith("on") for name in e)]


def test_nothing_is_loaded_from_elsewhere(full):
    _, _, html, page = full
    assert not page.all("link") and not page.all("iframe") and "@import" not in html
    assert not [e for e in page.elements if "src" in e]
    for element in page.elements:
        link = element.get("href") or "#"
        if element["tag"] == "a":
            assert link.startswith(("#", "data:text/csv;", "https://arxiv.org/abs/"))
        else:
            assert link.startswith(("#", "data:image/png;base64,"))
    assert re.findall(r"url\((?!#)", html) == []


def test_only_our_own_script_may_run(full):
    import base64
    import hashlib

    *_, page = full
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    digest = hashlib.sha256(page.all("script")[0]["text"].encode()).digest()
    assert f"script-src 'sha256-{base64.b64encode(digest).decode()}'" in policy["content"]
    assert "default-src 'none'" in policy["content"]


def test_ids_are_unique_and_links_lead_somewhere(full):
    *_, page = full
    ids = [element["id"] for element in page.elements if "id" in element]
    assert len(ids) == len(set(ids))
    for element in page.elements:
        for name in ("href", "aria-labelledby", "data-copy"):
            target = element.get(name) or ""
            if name != "href" or target.startswith("#"):
                assert target.removeprefix("#") in {*ids, ""}, element


def test_tables_and_figures_are_marked_up_for_everyone(full):
    *_, page = full
    assert all("scope" in cell for cell in page.all("th"))
    assert all("aria-label" in svg for svg in page.all("svg", role="img"))
    assert len(page.all("h1")) == 1 and page.all("html", lang="en")
    assert len(page.all("caption")) == len(page.all("table"))


def test_a_claim_is_shown_with_its_paper_interval_threshold_and_control(full):
    *_, page = full
    articles = [" ".join(article["text"].split()) for article in page.with_class("claim")]
    (first, *_) = articles
    for part in (
        "holds",
        "the curves coincide",
        "1.0114",
        "[1.0087, 1.0141]",
        "range over 5 seeds",
        "≤ 1.02",
    ):
        assert part in first
    assert "The same layer" in first or "the same layer" in first
    assert "Fails, as it must." in first
    (failing,) = [text for text in articles if "Two recurrent layers" in text and "only at laptop" not in text]
    assert "lies wholly on the wrong side" in failing
    (useless,) = [text for text in articles if "unrelated layers" in text]
    assert "Did not fail (holds): this claim proves nothing." in useless


def test_missing_numbers_are_shown_as_missing(full):
    *_, page = full
    (article,) = [e["text"] for e in page.with_class("claim") if "copies each target" in e["text"]]
    assert "—" in article and "4 of 5 seeds finite" in article and "None" not in article and "nan" not in article


def test_failed_and_unfinished_cells_are_named(full):
    *_, page = full
    notices = [" ".join(notice["text"].split()) for notice in page.with_class("notice")]
    assert any("1 of 15 cells failed trained-s1 at step 640: loss is NaN" in notice for notice in notices)
    assert any("Unfinished: 5 of 6 cells are done" in notice for notice in notices)


def test_damaged_and_newer_folders_are_listed_with_their_reason(full):
    *_, page = full
    text = " ".join(page.with_class("facts-table")[-1]["text"].split())
    for part in (
        "format 99, this one reads up to 1",
        "mesanet/damaged",
        "config.json is damaged",
        "is not a run's configuration",
        "cocoa/torn",
        "config.json is missing",
        "knows no study 'no-such-study'",
    ):
        assert part in text
    assert "5 folders could not be read." in page.elements[0]["text"]


def test_figures_are_drawn_with_their_data_or_their_reason(full):
    root, _, html, page = full
    assert "Not drawn: cell two-layers-s0 is not finished" in html
    assert "The code of this study is not loaded, so its figures cannot be redrawn." in html
    assert len(page.with_class("plot")) == 2
    assert len([a for a in page.all("a") if "download" in a]) == 2
    (run,) = (root / "icl-gd").glob("laptop-*")
    assert (run / "figures" / "losses.svg").exists()


def test_a_picture_found_in_a_run_folder_is_never_shown(tmp_path):
    run = make_run(tmp_path, "icl-gd", "laptop", (0,), Settings())
    (run.path / "figures").mkdir()
    (run.path / "figures" / "planted.svg").write_text("<svg><text>planted</text></svg>")
    html, _ = report_of(tmp_path)
    assert "planted" not in html


def test_the_same_input_gives_the_same_file(full):
    root, studies, html, _ = full
    again = build_report(root, PAPERS, studies, built=("icl-gd", "late-phase", "cocoa", "mesanet"))
    assert again.read_text() == html


def test_the_larger_scale_is_the_headline_and_older_runs_are_listed(full):
    root, studies, *_ = full
    board = read_board(root, PAPERS, studies, ())
    (view,) = [view for view in board.studies if view.name == "icl-gd"]
    assert [run.scale for run in view.newest] == ["laptop", "smoke"] and len(view.older) == 1


def test_a_complete_run_comes_before_an_unfinished_newer_one(tmp_path):
    make_run(tmp_path, "icl-gd", "laptop", (0,), Settings())
    newer = make_run(tmp_path, "icl-gd", "laptop", (0, 1), Settings())
    (newer.path / "cells" / "trained-s0" / "done.json").unlink()
    (newer.path / "provenance.json").write_text('[{"started": "2030-01-01T00:00:00+00:00"}]')
    (view,) = [view for view in read_board(tmp_path, PAPERS, {}, ()).studies if view.newest]
    assert view.newest[0].complete and not view.older[0].complete


def test_settings_that_differ_from_the_scale_are_marked(full):
    *_, page = full
    (row,) = [e for e in page.with_class("changed") if e["tag"] == "tr"][:1]
    assert row["text"] == "lr0.0010.003"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "null",
        '{"claims": []}',
        '[1, "x", null]',
        '[{"id": 7, "threshold": "x", "estimate": [], "per_seed": {"a": 1}, "control": 3, "verdict": "yes"}]',
        '[{"id": "\\ud800", "statement": "\\u0000\\u001b[31m", "estimate": 1e999, "per_seed": [1e308]}]',
        '[{"estimate": 1' + "0" * 400 + ', "threshold": -1e308, "low": 0, "high": 1e308, "direction": "<="}]',
    ],
)
def test_damaged_claims_do_not_stop_the_report(tmp_path, content):
    run = make_run(tmp_path, "icl-gd", "laptop", (0,), Settings())
    (run.path / "claims.json").write_text(content)
    (run.path / "provenance.json").write_text(
        '[{"started": {"x": []}, "seconds": "long", "git": [1], "hardware": 3}, 5]'
    )
    (run.path / "log.txt").write_bytes(b"\xff\x00 <b>")
    html, _ = report_of(tmp_path, {"icl-gd": make_study(PAPERS["icl-gd"])})
    assert "\x1b" not in html and "\x00" not in html and "&lt;b&gt;" in html


def test_a_verdict_of_another_version_counts_as_not_measured(tmp_path):
    run = make_run(tmp_path, "icl-gd", "laptop", (0,), Settings())
    write_claims(run, [claim("a", "probably", [1.0, 1.1])])
    _, page = report_of(tmp_path)
    assert not page.with_class("claim")
    (notice,) = [item for item in page.with_class("notice") if "Not measured in this run" in item["text"]]
    assert "the stored verdict 'probably' is unknown to this version" in notice["text"]


def test_cells_that_were_never_begun_are_missed(tmp_path):
    run = make_run(tmp_path, "icl-gd", "laptop", (0,), Settings())
    for path in (run.path / "cells" / "shuffled-s0").iterdir():
        path.unlink()
    (run.path / "cells" / "shuffled-s0").rmdir()
    html, _ = report_of(tmp_path, {"icl-gd": make_study(PAPERS["icl-gd"])})
    assert "Unfinished: 2 of 3 cells are done" in html


def test_a_configuration_of_another_version_is_explained(tmp_path):
    run = make_run(tmp_path, "icl-gd", "laptop", (0,), Settings())
    path = run.path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "config": {"speed": 3}}))
    html, _ = report_of(tmp_path, {"icl-gd": make_study(PAPERS["icl-gd"])})
    assert "the configuration does not fit this version of the study" in html
    assert "The figures cannot be redrawn: unknown field of Settings &#39;speed&#39;" in html


def test_an_empty_root_gives_the_board_alone(tmp_path):
    html, page = report_of(tmp_path, built=["icl-gd"])
    assert len(page.with_class("card")) == 24 and not page.with_class("study") and "0 have a run" in html


def test_a_long_table_is_linked_where_it_lies(tmp_path, monkeypatch):
    monkeypatch.setattr("innerloop.lab.report.page.LARGEST_INLINED_CSV", 100)
    run = make_run(tmp_path / "runs", "icl-gd", "laptop", (0,), Settings())
    output = tmp_path / "out" / "report.html"
    studies = {"icl-gd": make_study(PAPERS["icl-gd"])}
    assert build_report(tmp_path / "runs", PAPERS, studies, output=output) == output
    links = [a["href"] for a in Page(output.read_text()).all("a") if "download" in a]
    assert links[0] == f"../runs/icl-gd/{run.path.name}/figures/losses.csv"


def test_one_seed_has_no_interval(tmp_path):
    run = make_run(tmp_path, "icl-gd", "laptop", (0,), Settings())
    write_claims(run, [{**claim("a", "undecided", []), "estimate": 1.5, "per_seed": [1.5]}])
    _, page = report_of(tmp_path)
    assert "1.5 without interval, one seed" in " ".join(page.with_class("claim")[0]["text"].split())


@pytest.mark.parametrize(
    "values, threshold, shown",
    [
        ((1.0123, 1.0041, 1.0204), 1.5, ("1.012", "1.004", "1.020")),
        ((1.0123, 1.0041, 1.02004), 1.02, ("1.01230", "1.00410", "1.02004")),  # 1.020 would look allowed
        ((-0.5, -0.5, -0.5), 0.0, ("−0.5", "−0.5", "−0.5")),
        ((None, None, None), 0.0, ("—", "—", "—")),
        ((2e9, 1e9, 3e9), 1.0, ("2e9", "1e9", "3e9")),
    ],
)
def test_intervals_are_rounded_without_crossing_the_threshold(values, threshold, shown):
    assert tuple(interval(Measured(*values, ()), threshold).values()) == shown


def test_numbers_are_readable():
    assert [format_number(x) for x in (0.0, -1.5, 1e-7, 123456.0, None)] == [
        "0",
        "−1.5",
        "1e−7",
        "1.235e5",
        "—",
    ]


def shown_claim(tmp_path, entry):
    run = make_run(tmp_path, "icl-gd", "laptop", (0, 1, 2), Settings())
    write_claims(run, [entry])
    (view,) = [view for view in read_board(tmp_path, PAPERS, {}, ()).studies if view.newest]
    return view.newest[0].claims[0]


def test_the_strip_puts_everything_in_order(tmp_path):
    drawn = strip(shown_claim(tmp_path, LAPTOP_CLAIMS[3]), (0, 1, 2, 3, 4))
    ours, control = drawn["ours"], drawn["control"]
    assert drawn["left"] < drawn["threshold"] < ours["low"] < ours["estimate"] < ours["high"] < control["estimate"]
    assert control["estimate"] < drawn["right"] and control["beyond"] == 0
    assert drawn["allowed"] == (drawn["left"], drawn["threshold"] - drawn["left"])
    assert [dot["seed"] for dot in ours["dots"]] == ["0", "1", "2", "3", "4"]


def test_a_control_far_away_does_not_squeeze_the_strip(tmp_path):
    drawn = strip(shown_claim(tmp_path, claim("a", "holds", [1.0, 1.01, 0.99], control=[50.0, 51.0, 52.0])), (0, 1, 2))
    assert drawn["control"]["beyond"] == 1 and drawn["control"]["estimate"] == drawn["right"]
    assert drawn["ours"]["high"] - drawn["ours"]["low"] > 50
    assert drawn["threshold"] < drawn["right"] - 50  # room for the arrow and its number


def test_text_has_enough_contrast_in_both_themes():
    style = (TEMPLATES / "report.css").read_text()
    colours = {name: pair for name, *pair in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", style)}

    def luminance(colour):
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        parts = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]

    def contrast(a, b):
        light, dark = sorted((luminance(a), luminance(b)), reverse=True)
        return (light + 0.05) / (dark + 0.05)

    for theme in (0, 1):
        for ground in ("page", "surface"):
            for text in ("ink", "soft", "link", "holds", "fails", "undecided", "unmeasured"):
                assert contrast(colours[text][theme], colours[ground][theme]) >= 4.5, (text, ground, theme)
            for series in range(1, 7):
                assert contrast(colours[f"series-{series}"][theme], colours[ground][theme]) >= 3.0, series


def test_the_report_needs_neither_jax_nor_a_display(tmp_path):
    code = (
        "import sys, pathlib\n"
        "import innerloop.lab.report.figures, innerloop.lab.report.page as r\n"
        "assert not {'jax', 'matplotlib', 'jinja2'} & set(sys.modules), 'too early'\n"
        "r.build_report(pathlib.Path(sys.argv[1]), {}, {})\n"
        "assert not {'jax', 'matplotlib.pyplot'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
