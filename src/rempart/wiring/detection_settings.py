"""`[detection]` of rempart.toml: rules besides the built-in ones, and where addresses are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rempart.backends.geo_csv import GeoCsv
from rempart.detection.ruleset import BUILT_IN, load
from rempart.kernel.errors import BadInput

from .check import Reader


@dataclass(frozen=True, slots=True)
class DetectionSettings:
    rules_dir: Path | None = None
    geo_file: Path | None = None
    models: bool = False
    step_up: bool = True
    least_rows: int = 0


def read_detection(reader: Reader, directory: Path) -> DetectionSettings:
    """Rules and places are tried here: `rempart up` refuses what the detector could not use."""
    rules, geo = reader.text("rules"), reader.text("geo")
    rules_dir = (directory / rules).resolve() if rules else None
    geo_file = (directory / geo).resolve() if geo else None
    if rules_dir is not None:
        if rules_dir.is_dir():
            _try(reader, "rules", rules_dir)
        else:
            reader.refuse("rules", f"there is no directory {rules_dir}", "name the directory that holds Sigma files")
    if geo_file is not None:
        try:
            GeoCsv.read(geo_file)
        except BadInput as error:
            reader.refuse("geo", error.reason, error.remedy)
    models = reader.yes("models")
    step_up = reader.text("step_up", pattern="login|off", default="login") != "off"
    least = reader.number("least_rows", 0, at_least=60, at_most=20_000)
    return DetectionSettings(rules_dir, geo_file, models, step_up, least)


def _try(reader: Reader, key: str, rules_dir: Path) -> None:
    try:
        load([BUILT_IN, rules_dir])
    except BadInput as error:
        reader.refuse(key, error.reason, error.remedy)
