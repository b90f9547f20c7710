"""The revision of a backbone: the commit that was loaded is known, and one that the Hub does not have is named."""

from __future__ import annotations

import re
from typing import Any

BASE = "acme/tiny-bert"


def test_the_commit_is_known_and_can_be_asked_for(worker: Any) -> None:
    commit = worker("backbone", BASE)
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert worker("backbone", BASE, "main") == commit
    assert worker("backbone", BASE, commit) == commit
    # From the cache as well.
    assert worker("backbone", BASE, offline=True) == commit


def test_a_revision_that_the_hub_does_not_have_is_named(refused: Any) -> None:
    for revision in ("v9", "f" * 40):
        assert (
            f"encoder.revision: the Hub's '{BASE}' has no revision '{revision}'; give one of its branches, tags or "
            f"commits" in refused("backbone", BASE, revision)
        )
    assert "encoder.backbone: 'acme/none' cannot be loaded" in refused("backbone", "acme/none")
