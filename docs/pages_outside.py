"""Adds the pages outside docs/ to the site, and makes links to them work as they do on GitHub."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parent.parent
OUTSIDE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "LICENSE", "benchmarks")
SHOWN = (".json", ".md", ".png", ".svg", "")
README_NAME = "about.md"  # mkdocs would take a README.md at the top for index.md

LINK = re.compile(r"(?<=\]\()(?!\w+:|#)[^)\s#]+")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/."""
    for name in OUTSIDE:
        top = ROOT / name
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file() and path.suffix in SHOWN:
                files.append(File.generated(config, _on_site(path), abs_src_path=str(path)))
    return files


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Change links between files into links between pages."""
    origin = Path(page.file.abs_src_path or "").parent
    here = os.path.dirname(page.file.src_uri)

    def follow(link: re.Match[str]) -> str:
        target = Path(os.path.normpath(origin / link[0]))
        if not target.is_relative_to(ROOT):
            return link[0]
        return os.path.relpath(_on_site(target), here or ".")

    return LINK.sub(follow, text)


def _on_site(path: Path) -> str:
    """Return the path on the site of a file of the repository."""
    name = path.relative_to(ROOT).as_posix()
    return README_NAME if name == "README.md" else name.removeprefix("docs/")
