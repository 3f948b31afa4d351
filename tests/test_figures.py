import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.figure import Figure as Canvas
from scipy import stats

from innerloop.lab.catalogue import PAPERS
from innerloop.lab.report.figures import (
    INK,
    DrawnFigure,
    draw_figures,
    house_style,
    inline_svg,
    to_csv,
    write_figures,
)
from innerloop.lab.report.plots import band, curve_table, heat, line_at, pivot
from innerloop.lab.store import Records
from innerloop.lab.study import Figure
from report_runs import NASTY, Settings, make_run, make_study


@pytest.fixture
def records(tmp_path):
    return Records(make_run(tmp_path, "icl-gd", "laptop", (0, 1, 2), Settings()), Settings())


def study_with(*figures):
    study = make_study(PAPERS["icl-gd"])
    object.__setattr__(study, "figures", figures or study.figures)
    return study


def figure(name, data=lambda records: {"x": [1]}, draw=lambda canvas, table: canvas.subplots(), **more):
    return Figure(name, "Title", "Caption", "Figure 1", data, draw, **more)


def test_a_figure_that_fails_says_why_and_the_others_go_on(records):
    def broken(canvas, table):
        raise ZeroDivisionError("no such axis")

    drawn = draw_figures(study_with(figure("a"), figure("b", draw=broken), figure("../c"), figure("d")), records)
    assert [bool(item.svg) for item in drawn] == [True, False, False, True]
    assert drawn[1].reason == "ZeroDivisionError: no such axis"
    assert "'../c'" in drawn[2].reason
    missing = draw_figures(study_with(), records)[2]
    assert (missing.reason, missing.svg, missing.csv) == ("cell two-layers-s0 is not finished", "", "")


def test_a_figure_of_another_scale_is_not_drawn(records):
    assert draw_figures(study_with(figure("a", scales=("paper",))), records) == []


def test_the_same_data_give_the_same_bytes_whatever_the_users_settings(records):
    first = draw_figures(study_with(), records)
    with matplotlib.rc_context({"font.size": 30, "xtick.direction": "in", "lines.marker": "o"}):
        second = draw_figures(study_with(), records)
    assert [item.svg for item in first] == [item.svg for item in second]
    assert "dc:date" not in first[0].svg and INK in first[0].svg


def test_figures_leave_matplotlib_as_it_was(records):
    with matplotlib.rc_context({"font.size": 30}):
        draw_figures(study_with(), records)
        assert matplotlib.rcParams["font.size"] == 30


def test_figures_are_stored_with_their_data_and_old_ones_go(records):
    folder = records.run.path / "figures"
    drawn = draw_figures(study_with(), records)
    write_figures(records.run, drawn)
    assert sorted(path.name for path in folder.iterdir()) == [
        "losses.csv",
        "losses.svg",
        "weights.csv",
        "weights.svg",
    ]
    assert (folder / "losses.svg").read_text() == drawn[0].svg
    assert (folder / "weights.csv").read_text().startswith("row,column,weight\n0,0,")
    write_figures(records.run, [DrawnFigure("losses", "", "", "", "", "", "broken now")])
    assert not (folder / "losses.svg").exists() and (folder / "weights.svg").exists()


def test_a_figure_cannot_be_stored_outside_the_run_folder(records):
    with pytest.raises(ValueError, match="file name"):
        write_figures(records.run, [DrawnFigure("../escaped", "", "", "", "<svg/>", "x")])


def test_csv_keeps_every_digit_and_refuses_uneven_columns():
    assert to_csv({"a": np.asarray([0.1, 1 / 3]), "b": ['x, "y"', "z"]}) == (
        'a,b\n0.1,"x, ""y"""\n0.3333333333333333,z\n'
    )
    with pytest.raises(ValueError, match="differ in length"):
        to_csv({"a": [1], "b": [1, 2]})


def test_inlined_figures_share_no_id_and_every_reference_resolves(records):
    svg = draw_figures(study_with(), records)[0].svg
    pages = [inline_svg(svg, prefix=f"p{number}-", label="x") for number in (1, 2)]
    ids = [set(re.findall(r' id="([^"]+)"', page)) for page in pages]
    assert ids[0] and not ids[0] & ids[1]
    for page, names in zip(pages, ids, strict=True):
        assert set(re.findall(r"url\(#([^)]+)\)", page)) <= names
        assert set(re.findall(r'href="#([^"]+)"', page)) <= names


def test_inlined_figures_take_the_colours_of_the_page(records):
    page = inline_svg(draw_figures(study_with(), records)[0].svg, prefix="p-", label="x")
    assert INK not in page and "currentColor" in page and "var(--surface)" in page and "var(--series-1" in page
    assert "<style" not in page and "DOCTYPE" not in page and "metadata" not in page


def test_nothing_in_an_inlined_figure_acts_or_loads():
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" onload="a()">'
        "<script>a()</script><foreignObject><p/></foreignObject><style>@import url(http://x)</style>"
        '<image xlink:href="http://x/y.png"/><rect style="fill: url(http://x)" onclick="a()" width="3"/>'
        "<text>&lt;script&gt;</text></svg>"
    )
    page = inline_svg(svg, prefix="p-", label=NASTY)
    root = ElementTree.fromstring(page)
    assert [child.tag for child in root] == ["image", "rect", "text"]
    assert root[0].attrib == {} and root[1].attrib == {"width": "3"}
    assert "http" not in page and "<script" not in page and "onload" not in page


def test_text_from_data_stays_text(records):
    def draw(canvas, table):
        canvas.subplots().set_title(NASTY)

    (drawn,) = draw_figures(study_with(figure("a", draw=draw)), records)
    assert "<script" not in drawn.svg and "alert" in drawn.svg
    assert "<script" not in inline_svg(drawn.svg, prefix="p-", label="x")


def test_curves_become_a_long_table_and_back(records):
    table = curve_table(records, {"trained": "ours"}, "loss")
    seeds, steps, values = pivot(table, "seed", "step", "value", curve="ours")
    expected_steps, expected = records.series("trained", "loss")
    assert seeds == [0, 1, 2] and steps == expected_steps.tolist()
    np.testing.assert_array_equal(values, expected)


def test_band_is_the_student_interval_of_the_mean():
    values = np.asarray([[1.0, 2.0], [2.0, 2.5], [4.0, 2.1]])
    with house_style():
        axes = Canvas().subplots()
        line = band(axes, [0, 1], values, "ours")
    np.testing.assert_allclose(line.get_ydata(), values.mean(axis=0))
    low, high = stats.t.interval(0.95, 2, loc=values.mean(axis=0), scale=stats.sem(values, axis=0))
    corners = axes.collections[0].get_paths()[0].vertices
    for x in (0, 1):
        at = corners[corners[:, 0] == x, 1]
        np.testing.assert_allclose([at.min(), at.max()], [low[x], high[x]])


def test_band_says_how_many_seeds_are_left():
    values = np.asarray([[1.0, np.nan], [2.0, 2.5], [4.0, np.nan]])
    with house_style():
        axes = Canvas().subplots()
        assert band(axes, [0, 1], values, "ours").get_label() == "ours (1 of 3 seeds finite)"
        assert (
            band(axes, [0, 1], np.full((2, 2), np.nan), "none", spread="range")
            .get_label()
            .endswith("(0 of 2 seeds finite)")
        )
        assert band(axes, [0, 1], [1.0, 2.0], "one seed").get_label() == "one seed"


def test_helpers_draw_what_they_are_given():
    with house_style():
        canvas = Canvas(layout="constrained")
        left, right = canvas.subplots(1, 2)
        image = heat(left, [[1.0, -3.0], [np.nan, -0.001]], rows="ab", columns="cd", diverging=True)
        assert (image.norm.vmin, image.norm.vmax) == (-3.0, 3.0)
        assert [text.get_text() for text in left.texts] == ["1.0", "−3.0", "0.0"]
        heat(right, np.full((2, 2), np.nan))
        line = line_at(right, 0.5, "here")
        assert list(line.get_ydata()) == [0.5, 0.5] and right.texts[-1].get_text() == "here"
        line_at(right, 0.5, "there", along="y", side="start")
        canvas.canvas.draw()
