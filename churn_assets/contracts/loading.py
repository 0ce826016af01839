"""Loading of contract files; all faults of a file are reported at once."""

import builtins
import dis
import importlib.util
import inspect
import sys
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from pandera.api.dataframe.model_components import FieldInfo
from pydantic import ValidationError

from churn_assets.contracts.contract import (
    MONTH,
    Column,
    Contract,
    DerivedFeature,
    Kind,
    parameter_names,
)
from churn_assets.contracts.vocabulary import METADATA_KEY, CustomerContract, Economics

SHIPPED = Path(__file__).parent
SHIPPED_NAMES = ("ibm_telco", "telecom")
RESERVED = {MONTH, "source_row", "split", "reasons"}
MOST_CATEGORIES = 200
ANNOTATIONS: dict[Kind, tuple[type, ...]] = {
    "text": (str,),
    "number": (int, float),
    "category": (str,),
    "flag": (bool,),
}


class ContractError(ValueError):
    """A contract that cannot be used; the message lists every fault."""

    def __init__(self, name: str, faults: list[str]) -> None:
        self.faults = faults
        lines = "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(f"contract {name!r} has {len(faults)} fault(s):\n{lines}")


def load_contract(name_or_path: str) -> Contract:
    """Loads a shipped contract by name, or a team's own contract by file path.

    Raises:
        ContractError: The file is missing, does not import, or breaks a rule of the vocabulary.
    """
    path = _path_of(name_or_path)
    module = _import(path)
    models = [
        value
        for value in vars(module).values()
        if inspect.isclass(value)
        and issubclass(value, CustomerContract)
        and value.__module__ == module.__name__
    ]
    if len(models) != 1:
        found = ", ".join(model.__name__ for model in models) or "none"
        raise ContractError(
            path.stem,
            [f"{path} must define exactly one subclass of CustomerContract, found: {found}"],
        )
    return contract_of(models[0], path.stem)


def contract_of(model: type[CustomerContract], name: str) -> Contract:
    """Builds a contract from its pandera model.

    Raises:
        ContractError: The model breaks rules of the vocabulary; the message lists all of them.
    """
    faults: list[str] = []
    columns = _columns(model, faults)
    faults += _role_faults(columns)
    derived = _derived_features(model, columns, faults)
    terms = model.__terms__
    if not isinstance(terms.economics, Economics):
        faults.append("no economics: add __terms__ = Terms(economics=Economics(...))")
    if not isinstance(terms.horizon_months, int) or terms.horizon_months < 1:
        faults.append(
            f"horizon_months is {terms.horizon_months!r}: must be a whole number, at least 1"
        )
    if not (model.__doc__ or "").strip():
        faults.append(f"class {model.__name__} has no docstring: say what one row is")
    if not name.isidentifier():
        faults.append(f"file name {name!r} must be a Python identifier: tables are named after it")
    if faults or terms.economics is None:
        raise ContractError(name, faults)
    contract = Contract(
        name=name,
        version=terms.version,
        description=_first_line(model.__doc__),
        horizon_months=terms.horizon_months,
        economics=terms.economics,
        columns=tuple(columns),
        derived=tuple(derived),
        source=terms.source,
        model=model,
    )
    if faults := list(_elementwise_faults(contract)):
        raise ContractError(name, faults)
    return contract


def _path_of(name_or_path: str) -> Path:
    if name_or_path in SHIPPED_NAMES:
        return SHIPPED / f"{name_or_path}.py"
    path = Path(name_or_path)
    if path.suffix == ".py" and path.is_file():
        return path.resolve()
    raise ContractError(
        name_or_path,
        [f"is neither a shipped contract ({', '.join(SHIPPED_NAMES)}) nor the path of a .py file"],
    )


def _import(path: Path) -> ModuleType:
    name = f"churn_contract_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ContractError(path.stem, [f"{path} cannot be imported as Python"])
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except ValidationError as error:
        raise ContractError(path.stem, list(_validation_faults(error))) from error
    except Exception as error:
        raise ContractError(
            path.stem, [f"{path} cannot be imported: {type(error).__name__}: {error}"]
        ) from error
    return module


def _validation_faults(error: ValidationError) -> Iterator[str]:
    for fault in error.errors():
        field = ".".join(map(str, fault["loc"]))
        yield f"{error.title}.{field} is {fault['input']!r}: {fault['msg']}"


def _columns(model: type[CustomerContract], faults: list[str]) -> list[Column]:
    columns = []
    for name, annotation in _annotations(model).items():
        field = inspect.getattr_static(model, name, None)
        stored = (field.metadata or {}).get(METADATA_KEY) if isinstance(field, FieldInfo) else None
        if not isinstance(field, FieldInfo) or stored is None:
            faults.append(f"column {name!r} must be declared with a helper of the vocabulary")
            continue
        declared = dict(stored)
        faults += _column_faults(name, annotation, declared, field.description or "")
        misplaced = declared.pop("misplaced", {})
        if misplaced or annotation not in ANNOTATIONS[declared["kind"]]:
            continue
        declared["source_name"] = declared["source_name"] or name
        columns.append(
            Column(
                name=name,
                description=field.description or "",
                whole=annotation is int,
                nullable=field.nullable,
                **declared,
            )
        )
    return columns


def _annotations(model: type[CustomerContract]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for base in reversed(model.__mro__):
        if issubclass(base, CustomerContract) and base is not CustomerContract:
            found |= inspect.get_annotations(base, eval_str=True)
    return found


def _column_faults(
    name: str, annotation: Any, declared: dict[str, Any], description: str
) -> Iterator[str]:
    kind: Kind = declared["kind"]
    where = f"column {name!r}"
    for argument, value in declared.get("misplaced", {}).items():
        yield f"{where}: {argument}={value!r} does not apply to a {kind}"
    if annotation not in ANNOTATIONS[kind]:
        allowed = " or ".join(t.__name__ for t in ANNOTATIONS[kind])
        yield f"{where}: a {kind} must be annotated {allowed}, not {_name(annotation)}"
    if name in RESERVED and declared["role"] != "month":
        yield f"{where}: the name is reserved for the platform's own column"
    if not description.strip():
        yield f"{where}: has no description"
    ge, le, bands = declared["ge"], declared["le"], declared.get("bands", ())
    if ge is not None and le is not None and ge > le:
        yield f"{where}: ge={ge} is above le={le}"
    if list(bands) != sorted(set(bands)):
        yield f"{where}: bands={bands} must increase"
    if kind == "number" and declared.get("sensitive") and not bands:
        yield f"{where}: a sensitive number needs bands, which define its slices"
    values = declared.get("values") or ()
    yield from (f"{where}: value {v!r} is not text" for v in values if not isinstance(v, str))
    repeated = [v for v, times in Counter(values).items() if times > 1]
    yield from (f"{where}: value {v!r} is listed twice" for v in repeated)
    if len(values) > MOST_CATEGORIES:
        yield f"{where}: lists {len(values)} values, at most {MOST_CATEGORIES} are supported"


def _role_faults(columns: list[Column]) -> Iterator[str]:
    by_role: dict[str, list[str]] = {"id": [], "label": [], "month": [], "feature": []}
    for column in columns:
        by_role.setdefault(column.role, []).append(column.name)
    for role, helper in (("id", "customer_id"), ("label", "label")):
        if not by_role[role]:
            yield f"no {role} column: add one with {helper}(...)"
        elif len(by_role[role]) > 1:
            yield f"{len(by_role[role])} {role} columns, one allowed: {', '.join(by_role[role])}"
    if len(by_role["month"]) > 1:
        yield f"{len(by_role['month'])} month columns, one allowed: {', '.join(by_role['month'])}"
    if not by_role["feature"]:
        yield "no feature column: a model needs at least one number, category or flag"
    repeated = Counter(column.source_name for column in columns)
    yield from (f"source_name {n!r} is read by {k} columns" for n, k in repeated.items() if k > 1)


def _derived_features(
    model: type[CustomerContract], columns: list[Column], faults: list[str]
) -> list[DerivedFeature]:
    features = []
    taken = {column.name for column in columns}
    usable = {column.name for column in columns if column.role == "feature"}
    for function in model.__terms__.derived:
        found = list(_derived_faults(function, taken, usable))
        faults += found
        if not found:
            taken.add(function.__name__)
            features.append(
                DerivedFeature(
                    name=function.__name__,
                    inputs=parameter_names(function),
                    description=_first_line(function.__doc__),
                    source_code=textwrap.dedent(inspect.getsource(function)),
                    function=function,
                )
            )
    return features


def _derived_faults(
    function: Callable[..., Any], taken: set[str], usable: set[str]
) -> Iterator[str]:
    where = f"derived feature {_name(function)!r}"
    if not inspect.isfunction(function) or function.__name__ == "<lambda>":
        yield f"{where}: must be a function with a name"
        return
    if not (function.__doc__ or "").strip():
        yield f"{where}: has no docstring to describe it"
    if function.__name__ in taken | RESERVED:
        yield f"{where}: the name is taken"
    for name in parameter_names(function):
        if name not in taken:
            yield f"{where}: column {name!r} does not exist"
        elif name not in usable:
            yield f"{where}: column {name!r} is not a feature"
    # The function's source is copied into the service without the rest of the contract file.
    used = {i.argval for i in dis.get_instructions(function) if i.opname == "LOAD_GLOBAL"}
    for name in sorted(used - {"np"} - set(vars(builtins))):
        yield f"{where}: uses {name!r}; only its columns and numpy as np are available"
    if "np" in used and function.__globals__.get("np") is not np:
        yield f"{where}: np must be numpy"
    if function.__closure__:
        yield f"{where}: must not use variables of an enclosing function"


def _elementwise_faults(contract: Contract) -> Iterator[str]:
    """Tests that a derived feature returns the same value for a row alone as in a column."""
    rows = {column.name: _samples(column) for column in contract.features}
    for feature in contract.derived:
        only = contract.model_copy(update={"derived": (feature,)})
        where = f"derived feature {feature.name!r}"
        try:
            together = only.derive(rows)[feature.name]
            if np.shape(together) != (4,):
                yield f"{where}: returns shape {np.shape(together)} for columns of shape (4,)"
                continue
            alone = [
                only.derive({k: v[i] for k, v in rows.items()})[feature.name] for i in range(4)
            ]
        except Exception as error:  # noqa: BLE001  # contract code may raise anything
            yield f"{where}: raises {type(error).__name__}: {error}"
            continue
        if not np.array_equal(together, np.array(alone, dtype=np.float64), equal_nan=True):
            yield f"{where}: returns different values for a row alone and in a column"


def _samples(column: Column) -> Any:
    """Returns four values of the column, the last one null."""
    if column.kind == "category":
        values = column.values or ("a", "b")
        return np.array([values[0], values[-1], values[0], None], dtype=object)
    low = 0.0 if column.ge is None else column.ge
    high = (1.0 if column.kind == "flag" else low + 100.0) if column.le is None else column.le
    return np.array([low, high, low + (high - low) / 4, np.nan])


def _first_line(text: str | None) -> str:
    return inspect.cleandoc(text or "").partition("\n\n")[0].replace("\n", " ").strip()


def _name(value: object) -> str:
    return getattr(value, "__name__", repr(value))
