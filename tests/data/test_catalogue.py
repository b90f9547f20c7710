from __future__ import annotations

import numpy as np
import pytest

from peftrec.config import InputError
from peftrec.data import Catalogue


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(("0012", "B00ABC", "c"), ("Red", "Green", "Blue"), ("r", "g", "b"))


def test_index(catalogue: Catalogue) -> None:
    found = catalogue.index(["c", "0012", "c"])
    assert found.dtype == np.int64
    assert found.tolist() == [2, 0, 2]
    assert catalogue.index([]).tolist() == []
    assert len(catalogue) == 3


def test_unknown_id_names_it_and_the_nearest(catalogue: Catalogue) -> None:
    with pytest.raises(InputError, match=r"no item has the id 'B00ABX'\. Did you mean 'B00ABC'\?"):
        catalogue.index(["c", "B00ABX"])
    with pytest.raises(InputError, match=r"no item has the id '12'"):
        catalogue.index(["12"])
    with pytest.raises(InputError, match="ids are text"):
        catalogue.index([12])  # type: ignore[list-item]
    with pytest.raises(InputError, match="list of item ids"):
        catalogue.index("0012")


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="one text and one title an item"):
        Catalogue(("a", "b"), ("A",), ("A", "B"))
