"""From a save to the first answer, for programs that import large packages."""

from __future__ import annotations

from pathlib import Path

from .contenders import version
from .restart import MODULES, answers
from .results import Table
from .runners import make_runners, restarting, save_and_follow, side_by_side, take_turns
from .scale import Scale

IMPORTS = {
    "numpy": "numpy",
    "scipy": "scipy.stats",
    "pandas": "pandas",
    "sqlalchemy": "sqlalchemy.orm",
}


def measure(place: Path, scale: Scale) -> list[Table]:
    """Save as `restart` does, for Python programs that import the installed ones of IMPORTS."""
    found = [name for name in IMPORTS if version(name)]
    more = "".join(f"import {IMPORTS[name]}\n" for name in found)
    contenders = [one for one in restarting(scale.only) if one.language == "py"]
    runners = make_runners(place, contenders, MODULES, more)
    with side_by_side(runners, "heavy"):
        take_turns(runners, scale.heavy, "heavy", save_and_follow)
    table = answers(runners, f"Save to first answer, heavy imports (ms; {scale.heavy} saves)")
    table.remarks.append("Imported: " + ", ".join(f"{one} {version(one)}" for one in found) + ".")
    return [table]
