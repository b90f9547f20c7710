"""A small double of the Hub on 127.0.0.1, for tests: the real client does all the talking."""

from hub_double.failure import Failure
from hub_double.server import HubDouble
from hub_double.store import Blob, Hub, Repository

__all__ = ["Blob", "Failure", "Hub", "HubDouble", "Repository"]
