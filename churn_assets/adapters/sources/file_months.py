"""Months for which there is a file, where the path has a slot for the month."""

import re

import fsspec

from churn_assets.adapters.sources.http_files import HTTP_LINK
from churn_assets.adapters.sources.source import SourceError
from churn_assets.adapters.sources.tabular import as_source_errors

MONTH_SLOT = "{month}"
MONTH = r"\d{4}-(?:0[1-9]|1[0-2])"


def months_of_files(template: str) -> frozenset[str]:
    """Returns the months for which a path with the slot `{month}` exists.

    Returns:
        The months; none where the files cannot be listed: at http(s)://, in archives, in a folder
        that does not exist or that only the reading of known names is allowed in.
    """
    if HTTP_LINK.search(template) or "::" in template:
        return frozenset()
    try:
        with as_source_errors(template, "bytes"):
            return _listed(template)
    except SourceError:
        return frozenset()


def _listed(template: str) -> frozenset[str]:
    system, path = fsspec.url_to_fs(template)
    system.invalidate_cache()
    before, _, after = path.partition(MONTH_SLOT)
    folder, _, start = before.rpartition("/")
    end, *below = after.split("/", 1)
    # Not a glob, which would read `[`, `?` and `*` in the path as patterns.
    rest = re.escape(end).replace(re.escape(MONTH_SLOT), r"\1")
    name = re.compile(f"{re.escape(start)}({MONTH}){rest}")
    entries = (
        entry.rstrip("/").rpartition("/")[2] for entry in system.ls(folder or "/", detail=False)
    )
    months = {found[1] for entry in entries if (found := name.fullmatch(entry))}
    return frozenset(m for m in months if not below or system.exists(path.replace(MONTH_SLOT, m)))
