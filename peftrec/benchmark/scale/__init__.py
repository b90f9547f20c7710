"""What large catalogues, many users and large backbones cost, by formulas that tests hold against what is measured."""
