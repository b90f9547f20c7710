"""Strict YAML to frozen dataclasses: sections, registries of `kind:` tags, overrides, and the resolved dump."""

from peftrec.config.error import InputError, RecipeError
from peftrec.config.registry import Registry, nearest
from peftrec.config.section import Range, choice_registry, parse_section, section_to_dict
from peftrec.config.yaml_file import apply_overrides, dump_yaml, parse_yaml, read_yaml

__all__ = [
    "InputError",
    "Range",
    "RecipeError",
    "Registry",
    "apply_overrides",
    "choice_registry",
    "dump_yaml",
    "nearest",
    "parse_section",
    "parse_yaml",
    "read_yaml",
    "section_to_dict",
]
