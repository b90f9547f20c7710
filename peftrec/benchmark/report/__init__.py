"""What the results of a benchmark suite show: tables, plots and text, drawn from its JSON files alone."""
