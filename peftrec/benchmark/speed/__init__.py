"""How fast training steps and encoding are, each against the usual way of doing the same, in one run."""
