"""BibTeX of a paper together with the software that re-measured it."""

import importlib.metadata
from typing import Any

from .. import __version__
from .paper import Paper, bibtex_entry

# As the projects ask to be cited in their read-me files; Orbax asks for nothing in particular.
_JAX = {
    "author": "James Bradbury and Roy Frostig and Peter Hawkins and Matthew James Johnson and Yash Katariya"
    " and Chris Leary and Dougal Maclaurin and George Necula and Adam Paszke and Jake Vander{P}las and"
    " Skye Wanderman-{M}ilne and Qiao Zhang",
    "title": "{JAX}: composable transformations of {P}ython+{N}um{P}y programs",
    "url": "http://github.com/jax-ml/jax",
    "year": "2018",
}
_EQUINOX = {
    "author": "Patrick Kidger and Cristian Garcia",
    "title": "{E}quinox: neural networks in {JAX} via callable {P}y{T}rees and filtered transformations",
    "year": "2021",
    "journal": "Differentiable Programming workshop at Neural Information Processing Systems 2021",
}
_OPTAX = {
    "author": "DeepMind and Babuschkin, Igor and Baumli, Kate and Bell, Alison and Bhupatiraju, Surya and"
    " Bruce, Jake and Buchlovsky, Peter and Budden, David and Cai, Trevor and Clark, Aidan and Danihelka,"
    " Ivo and Dedieu, Antoine and Fantacci, Claudio and Godwin, Jonathan and Jones, Chris and Hemsley,"
    " Ross and Hennigan, Tom and Hessel, Matteo and Hou, Shaobo and Kapturowski, Steven and Keck, Thomas"
    " and Kemaev, Iurii and King, Michael and Kunesch, Markus and Martens, Lena and Merzic, Hamza and"
    " Mikulik, Vladimir and Norman, Tamara and Papamakarios, George and Quan, John and Ring, Roman and"
    " Ruiz, Francisco and Sanchez, Alvaro and Sartran, Laurent and Schneider, Rosalia and Sezener, Eren"
    " and Spencer, Stephen and Srinivasan, Srivatsan and Stanojevi\\'{c}, Milo\\v{s} and Stokowiec, Wojciech"
    " and Wang, Luyu and Zhou, Guangyao and Viola, Fabio",
    "title": "The {D}eep{M}ind {JAX} {E}cosystem",
    "url": "http://github.com/google-deepmind",
    "year": "2020",
}
_ORBAX = {
    "author": "{Orbax Authors}",
    "title": "{Orbax}: checkpointing for {JAX}",
    "url": "http://github.com/google/orbax",
    "year": "2022",
}


def bibtex(study_or_paper: Any) -> str:
    """The BibTeX entries of a paper (or of a study's paper) and of Innerloop, JAX, Equinox, Optax and Orbax.

    Versions are those of the installed packages.
    """
    paper = study_or_paper if isinstance(study_or_paper, Paper) else study_or_paper.paper
    innerloop = {
        "author": "{The Innerloop authors}",
        "title": "{Innerloop}: learning inside learning",
        "note": "A {JAX} library and a lab that re-measures the claims of its papers",
        "version": __version__,
    }
    entries = [
        paper.bibtex(),
        bibtex_entry("software", "innerloop", innerloop),
        bibtex_entry("software", "jax2018github", _JAX | _version("jax")),
        bibtex_entry("article", "kidger2021equinox", _EQUINOX | _version("equinox", as_note=True)),
        bibtex_entry("software", "deepmind2020jax", _OPTAX | _version("optax", as_note=True)),
        bibtex_entry("software", "orbax", _ORBAX | _version("orbax-checkpoint")),
    ]
    return "\n\n".join(entries) + "\n"


def _version(package: str, *, as_note: bool = False) -> dict[str, str]:
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return {}
    return {"note": f"Used: {package} {version}"} if as_note else {"version": version}
