"""What the board knows of a paper and how it is cited, without NumPy or JAX, so that `list` is quick."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field

# Family names of more than one word, which BibTeX would otherwise split in the wrong place.
FAMILY_NAMES = (
    "Agüera y Arcas",
    "García Ordóñez",
    "Tristany Farinha",
    "Vilimelis Aceituno",
    "von Oswald",
)

# How the short name of a venue reads in a bibliography.
PROCEEDINGS = {
    "NeurIPS": "Advances in Neural Information Processing Systems",
    "ICML": "Proceedings of the International Conference on Machine Learning",
    "ICLR": "International Conference on Learning Representations",
    "EMNLP": "Proceedings of the Conference on Empirical Methods in Natural Language Processing",
}


@dataclass(frozen=True)
class Paper:
    """A paper of the board, with what is needed to cite it.

    - `year`: of the venue; of the preprint where there is none.
    - `venue`: short, such as `"NeurIPS 2023"`; empty for a preprint.
    - `wing`: the part of the library that the paper's method lives in.
    - `minutes`: measured wall time per scale on two cores, for the estimate before a run.
    """

    study: str
    title: str
    authors: tuple[str, ...]
    year: int
    arxiv: str
    venue: str = ""
    spec: int = 0
    wing: str = ""
    summary: str = ""  # one plain sentence: what the paper shows
    minutes: Mapping[str, float] = field(default_factory=dict, hash=False)

    def bibtex(self) -> str:
        """The BibTeX entry of the paper.

        ```python
        >>> from innerloop.lab.catalogue import PAPERS
        >>> print(PAPERS["icl-gd"].bibtex().splitlines()[0])
        @inproceedings{vonoswald2023iclgd,

        ```
        """
        key = f"{ascii_letters(family_name(self.authors[0]))}{self.year}{ascii_letters(self.study)}"
        fields = {
            "title": f"{{{escape(self.title)}}}",  # the second pair of braces keeps the capitals
            "author": " and ".join(escape(family_first(author)) for author in self.authors),
            "year": str(self.year),
        }
        if self.venue:
            fields["booktitle"] = escape(_proceedings(self.venue))
        else:
            fields["journal"] = f"arXiv preprint arXiv:{self.arxiv}"
        fields |= {
            "eprint": self.arxiv,
            "archivePrefix": "arXiv",
            "url": f"https://arxiv.org/abs/{self.arxiv}",
        }
        return bibtex_entry("inproceedings" if self.venue else "article", key, fields)


def bibtex_entry(kind: str, key: str, fields: Mapping[str, str]) -> str:
    """One BibTeX entry; the values stand in braces as they are."""
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def family_name(author: str) -> str:
    """The family name of `"Given Family"`, also where it has more than one word."""
    for name in FAMILY_NAMES:
        if author.endswith(f" {name}"):
            return name
    return author.split()[-1]


def family_first(author: str) -> str:
    """The author as `Family, Given`, which BibTeX cannot misread; the word `others` stays as it is."""
    family = family_name(author)
    given = author.removesuffix(family).strip()
    return f"{family}, {given}" if given else family


def ascii_letters(text: str) -> str:
    """Lower-case ASCII letters and digits only, accents taken off: fit for a BibTeX key."""
    plain = unicodedata.normalize("NFKD", text.replace("ł", "l").replace("Ł", "L"))
    return "".join(letter for letter in plain.lower() if letter.isascii() and letter.isalnum())


def escape(text: str) -> str:
    """Text with the characters escaped that mean something to LaTeX."""
    return "".join(f"\\{letter}" if letter in "&%$#_" else letter for letter in text)


def _proceedings(venue: str) -> str:
    short = venue.split()[0]
    return f"{PROCEEDINGS[short]} ({venue})" if short in PROCEEDINGS and len(venue.split()) == 2 else venue
