"""For mkdocs: pages link to results/, which lies beside docs/. What they link to becomes part of the site, so that a
missing picture or report is a broken link as any other.
"""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

LINK = re.compile(r"\]\(\.\./(results/[^)#]+)")


def _add(name: str, files: Files, config: MkDocsConfig) -> None:
    """A file of results/, and what it links to in its own folder if it is a page itself."""
    path = Path(config.docs_dir).parent / name
    if files.get_file_from_path(name) is not None or not path.is_file():
        return
    files.append(File.generated(config, name, abs_src_path=str(path), inclusion=InclusionLevel.NOT_IN_NAV))
    if path.suffix == ".md":
        for linked in re.findall(r"\]\(([^):#]+)\)", path.read_text("utf-8")):
            _add((Path(name).parent / linked).as_posix(), files, config)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for page in files.documentation_pages():
        for name in LINK.findall(page.content_string):
            _add(name, files, config)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return LINK.sub(r"](\1", markdown)
