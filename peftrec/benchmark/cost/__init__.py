"""What a recipe costs: steps, memory, encoding and queries, measured with the machine to itself."""

from peftrec.benchmark.cost.measure import measure_cost

__all__ = ["measure_cost"]
