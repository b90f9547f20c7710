"""Runs on the Hub: pushed in one commit, pulled whole."""

from peftrec.publishing.hub.hub_name import HubName, parse_hub_name
from peftrec.publishing.hub.pull import fetch, pull_run, run_folder_of
from peftrec.publishing.hub.push import PushReport, push_run

__all__ = ["HubName", "PushReport", "fetch", "parse_hub_name", "pull_run", "push_run", "run_folder_of"]
