"""How much is measured: the rounds of each measure, and the sizes of its trees."""

from __future__ import annotations

from dataclasses import dataclass

# The contenders of a quick run; `--only` chooses others.
FEW = (
    "evreload start()",
    "evreload",
    "evreload --warm",
    "tornado.autoreload",
    "uvicorn, watchfiles",
    "gunicorn, inotify",
    "nodemon",
    "bun --hot",
)


@dataclass(frozen=True)
class Tree:
    """The files of a project: imported modules, and directories with other files."""

    modules: int
    directories: int = 0  # with five files each

    def __str__(self) -> str:
        beside = f" beside {self.directories * 5:,} other files" if self.directories else ""
        return f"{self.modules:,} modules{beside}"


@dataclass(frozen=True)
class Scale:
    """How much is measured: numbers of rounds, unless the comment names something else."""

    restart: int
    heavy: int
    growth: int
    startup: int
    checkout: int
    during: int
    broken: int
    warm: int
    trees: tuple[Tree, ...]  # for startup and idle
    grown: tuple[int, ...]  # numbers of modules, for growth
    preloaded: tuple[int, ...]  # numbers of installed modules, for warm
    idle: float  # seconds
    own_starts: int  # for the costs of evreload's parts
    loops: tuple[int, ...]  # numbers of modules, for loop
    looking: float  # seconds for which the idle loop is measured
    hooks: int  # saves, each until the reload hook is called
    lags: int  # programs of which the loop's lag is measured
    only: tuple[str, ...] = ()  # names of contenders; all if it is empty

    @classmethod
    def full(cls) -> Scale:
        return cls(
            restart=12,
            heavy=3,
            growth=2,
            startup=3,
            checkout=4,
            during=20,
            broken=2,
            warm=20,
            trees=(Tree(50), Tree(1000), Tree(1000, directories=20_000)),
            grown=(100, 1000, 10_000),
            preloaded=(100, 1000, 3000),
            idle=8,
            own_starts=20,
            loops=(100, 5000),
            looking=5,
            hooks=10,
            lags=3,
        )

    @classmethod
    def quick(cls) -> Scale:
        return cls(
            restart=2,
            heavy=1,
            growth=1,
            startup=1,
            checkout=1,
            during=2,
            broken=1,
            warm=2,
            trees=(Tree(50, directories=400),),
            grown=(100, 400),
            preloaded=(100,),
            idle=3,
            own_starts=3,
            loops=(500,),
            looking=2,
            hooks=2,
            lags=1,
            only=FEW,
        )
