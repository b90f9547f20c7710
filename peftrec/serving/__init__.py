"""Recommending over HTTP: the service, and the store of events that it stands on."""
