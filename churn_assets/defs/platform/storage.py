"""IO managers of the assets: tables in the lake, reports as JSON and HTML."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg
import pandas as pd
from pydantic import BaseModel
from upath import UPath

from churn_assets.adapters.lake import PROVENANCE, Lake
from churn_assets.adapters.reports.markdown import markdown_image
from churn_assets.contracts.contract import Contract
from churn_assets.contracts.schemas import typed
from churn_assets.defs.platform.faults import stop_at_data_fault


@dataclass(frozen=True)
class Renderer:
    """Renders a report for people: its plots, and an HTML page with them."""

    plots: Callable[[Any], Mapping[str, bytes]]
    page: Callable[[Any, Mapping[str, bytes]], str]


Renderers = Mapping[type[BaseModel], Renderer]


class DocumentError(ValueError):
    """A stored document cannot be read; the message names the file."""


class LakeIOManager(dg.IOManager):
    """Stores a data frame in the Delta table with the name of its asset, one month at a time.

    Several months load as one frame. `attrs["lake"]` of a loaded frame holds the table version that
    was read; `attrs["lake"]` of a frame to store, the table versions that it was computed from.
    """

    def __init__(self, lake: Lake, contract: Contract | None = None) -> None:
        """Sets the lake, and the contract whose dtypes loaded frames get; None for plain frames."""
        self._lake = lake
        self._contract = contract

    @stop_at_data_fault()
    def handle_output(self, context: dg.OutputContext, obj: pd.DataFrame) -> None:
        month = context.partition_key if context.has_partition_key else None
        written = self._lake.write(_table(context), obj, month, obj.attrs.get(PROVENANCE))
        context.add_output_metadata(
            {
                "dagster/row_count": written.rows,
                "dagster/uri": f"{self._lake.root}/{_table(context)}",
                "bytes": written.bytes,
                "table_version": written.version,
            }
        )

    @stop_at_data_fault()
    def load_input(self, context: dg.InputContext) -> pd.DataFrame:
        months = context.asset_partition_keys if context.has_asset_partitions else None
        frame = self._lake.read(_table(context), months)
        return frame if self._contract is None else typed(frame, self._contract)


class DocumentIOManager(dg.UPathIOManager):
    """Stores a pydantic model as JSON, and also as HTML if its type has a renderer."""

    extension: str | None = ".json"

    def __init__(self, base_path: UPath, renderers: Renderers | None = None) -> None:
        self._renderers = renderers or {}
        super().__init__(base_path)

    @stop_at_data_fault()
    def dump_to_path(self, context: dg.OutputContext, obj: BaseModel, path: UPath) -> None:
        if renderer := self._renderers.get(type(obj)):
            # Drawn once, for the page and for the UI: plots take longer than the rest of a report.
            plots = renderer.plots(obj)
            page = path.with_suffix(".html")
            _write_atomically(page, renderer.page(obj, plots))
            images = [markdown_image(png, name) for name, png in plots.items()]
            context.add_output_metadata(
                {
                    "html": dg.MetadataValue.path(str(page)),
                    "plots": dg.MetadataValue.md("\n\n".join(images)),
                }
            )
        _write_atomically(path, obj.model_dump_json(indent=1))

    @stop_at_data_fault()
    def load_from_path(self, context: dg.InputContext, path: UPath) -> BaseModel:
        wanted: type[BaseModel] = context.dagster_type.typing_type
        asset = context.asset_key.to_user_string()
        try:
            return wanted.model_validate_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise DocumentError(f"{path} does not exist: materialise {asset} first") from error
        except ValueError as error:
            message = f"{path} cannot be read as {wanted.__name__}: {error}; materialise {asset}"
            raise DocumentError(message) from error


def _table(context: dg.OutputContext | dg.InputContext) -> str:
    return "_".join(context.asset_key.path)


def _write_atomically(path: UPath, text: str) -> None:
    """Writes a temporary file and renames it, so that readers see the old text or the new one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(path)
