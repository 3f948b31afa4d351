"""What MkDocs does beyond Markdown here: one page per study from the study's metadata, formulas as MathML.

A page shows the study's last laptop run if `docs/results/<study>/` holds `claims.json`, `provenance.json` and
`figures/*.svg`, as `innerloop run <study> --scale laptop` writes them.
"""

import html
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from innerloop.core.config import flatten
from innerloop.lab.catalogue import PAPERS
from innerloop.lab.citation import bibtex
from innerloop.lab.paper import Paper
from innerloop.lab.study import Study
from innerloop.studies import built, load

VERDICTS = ("holds", "fails", "undecided", "not measured")


def on_config(config: Any) -> Any:
    """Put the pages of the studies where `mkdocs.yml` names their index."""
    for entry in config.nav:
        if entry.get("Studies") == "studies/index.md":
            entry["Studies"] = ["studies/index.md", *({name: f"studies/{name}.md"} for name in PAPERS)]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Generate the pages of the studies."""
    from mkdocs.structure.files import File

    results = Path(config.docs_dir) / "results"
    pages = {"index": index_page(), **{name: study_page(name, results / name) for name in PAPERS}}
    for name, content in pages.items():
        files.append(File.generated(config, f"studies/{name}.md", content=content))
    return files


def on_page_content(page_html: str, **_: Any) -> str:
    """Formulas as MathML, which browsers draw without a script; as LaTeX if latex2mathml is not there."""
    try:
        from latex2mathml.converter import convert
    except ImportError:
        return page_html

    def inline(match: re.Match[str]) -> str:
        return convert(html.unescape(match[1]))

    def block(match: re.Match[str]) -> str:
        return f'<div class="arithmatex">{convert(html.unescape(match[1]), display="block")}</div>'

    page_html = re.sub(r'<span class="arithmatex">\\\((.*?)\\\)</span>', inline, page_html, flags=re.S)
    return re.sub(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', block, page_html, flags=re.S)


# ---- the board ----


def index_page() -> str:
    """All papers of the board in its order."""
    lines = [
        "# Studies",
        "",
        f"A study re-measures the claims of one paper. The board has {len(PAPERS)} papers;"
        f" {len(built())} of them can be run in this version.",
        "",
        "| study | paper | |",
        "| --- | --- | --- |",
    ]
    for name, paper in PAPERS.items():
        if name in built():
            lines.append(f"| [`{name}`]({name}.md) | {plain(paper.title)}, {paper.year} | built |")
        else:
            title = f'<span class="not-built">{plain(paper.title)}, {paper.year}</span>'
            lines.append(f"| [`{name}`]({name}.md) | {title} | not built yet |")
    return "\n".join(lines) + "\n"


# ---- one study ----


def study_page(name: str, results: Path) -> str:
    """The page of one study, with its last laptop run if `results` holds one."""
    paper = PAPERS[name]
    venue = f", {plain(paper.venue)}" if paper.venue else f", {paper.year}"
    lines = [
        f"# {plain(paper.title)}",
        "",
        f"{plain(', '.join(paper.authors))}{venue}. [arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})",
        "",
        plain(paper.summary),
        "",
    ]
    if name in built():
        lines += [*_built(name, load(name), paper, results)]
    else:
        lines += ['!!! note "Not built yet"', "", "    This version cannot run this study.", ""]
    lines += ["## BibTeX", "", "```bibtex", bibtex(paper).strip(), "```"]
    return "\n".join(lines) + "\n"


def _built(name: str, study: Study, paper: Paper, results: Path) -> Iterator[str]:
    yield from ("```console", f"$ innerloop run {name} --scale laptop", "```", "")
    if paper.minutes:
        costs = (f"{scale} about {minutes:g} min" for scale, minutes in paper.minutes.items())
        yield from (f"Time on two cores: {', '.join(costs)}.", "")
    if study.substitutes:
        yield from (plain(study.substitutes), "")
    found = (results / "claims.json").is_file()
    yield from ("## Claims", "")
    for claim in study.claims:
        judged = "every seed must satisfy it" if claim.over_seeds == "every" else "95% interval of the mean"
        yield from (
            f"### {plain(claim.id)}. {plain(claim.statement)} {{ #claim-{slug(claim.id)} }}",
            "",
            f"- Source: {plain(claim.source)}",
            f"- The paper: {plain(claim.paper)}",
            f"- Measured: {plain(claim.quantity)}",
            f"- Needed: {plain(str(claim.threshold))} ({judged})",
            f"- Control, which must fail: {plain(claim.control.statement)}",
            f"- Judged at: {', '.join(scale for scale in study.configurations if scale in claim.scales)}",
            "",
        )
    yield from ("## Last laptop run", "")
    yield from _results(study, results) if found else ("No stored result in this version.", "")
    yield from ("## Figures", "")
    for figure in study.figures:
        yield from (f"### {plain(figure.title)} {{ #figure-{slug(figure.id)} }}", "")
        if (results / "figures" / f"{figure.id}.svg").is_file():
            image = f"../results/{name}/figures/{figure.id}.svg"
            yield from (f"![{plain(figure.title)}]({image})", "")
        yield from (plain(figure.caption), "", f"In the paper: {plain(figure.paper)}", "")
    yield from ("## Configuration", "")
    yield from _configurations(study)


def _results(study: Study, results: Path) -> Iterator[str]:
    stored = {claim["id"]: claim for claim in json.loads((results / "claims.json").read_text())}
    yield "| claim | ours, with interval | needed | control | verdict |"
    yield "| --- | --- | --- | --- | --- |"
    for claim in study.claims:
        link = f"[{plain(claim.id)}](#claim-{slug(claim.id)})"
        if claim.id not in stored:
            yield f"| {link} | | | | not in this run |"
            continue
        one = stored[claim.id]
        control = one.get("control") or {}
        verdict = one["verdict"] if one["verdict"] in VERDICTS else "undecided"
        told = f'<span class="{verdict.replace(" ", "-")}">{verdict}</span>'
        reason = f": {plain(one['reason'])}" if one.get("reason") else ""
        needed = f"{plain(one.get('direction') or '')} {number(one.get('threshold'))}"
        yield (
            f"| {link} | {interval(one)} | {needed} | {interval(control)},"
            f" {plain(str(control.get('verdict')))} | {told}{reason} |"
        )
    yield ""
    if (results / "provenance.json").is_file():
        yield from (_provenance(json.loads((results / "provenance.json").read_text())), "")


def _provenance(entries: list[dict[str, Any]]) -> str:
    last = entries[-1]
    seconds = sum(entry.get("seconds") or 0 for entry in entries)
    hardware, git = last.get("hardware") or {}, last.get("git") or {}
    parts = [
        f"ended {last.get('ended') or 'never'}, after {seconds / 60:.1f} minutes",
        f"{hardware.get('cores')} cores, {hardware.get('cpu')}",
        f"Python {last.get('python')}, innerloop {last.get('innerloop')}, jax {last.get('jax')}",
    ]
    if git.get("commit"):
        parts.append(f"commit {git['commit'][:12]}{' with changes' if git.get('dirty') else ''}")
    return f"This run {'; '.join(plain(part) for part in parts)}."


def _configurations(study: Study) -> Iterator[str]:
    flat = {scale: flatten(config) for scale, config in study.configurations.items()}
    yield f"| flag | {' | '.join(flat)} |"
    yield f"| --- | {' | '.join('---' for _ in flat)} |"
    yield f"| `--seeds` | {' | '.join(str(study.seeds[scale]) for scale in flat)} |"
    for name in dict.fromkeys(name for values in flat.values() for name in values):
        values = (plain(json.dumps(config.get(name))) for config in flat.values())
        yield f"| `--{name.replace('_', '-')}` | {' | '.join(values)} |"
    yield ""


def interval(one: dict[str, Any]) -> str:
    """`1.01 [0.99, 1.03]`, or nothing where nothing was measured."""
    if one.get("estimate") is None:
        return "none"
    return f"{number(one['estimate'])} &#91;{number(one.get('low'))}, {number(one.get('high'))}&#93;"


def number(value: float | None) -> str:
    """Four digits; a question mark for what was not finite."""
    return "?" if value is None else f"{value:.4g}".replace("-", "−")


def slug(name: str) -> str:
    """Fit for an anchor."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def plain(text: str) -> str:
    """Text that means nothing to Markdown: in a table, a heading or a paragraph."""
    text = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_{}\[\]$|])", lambda match: f"&#{ord(match[1])};", text)
