"""One file per known kind of data set; each is a `data.kind`."""
