"""Files: the table of datasets, shards, manifests and the frames that are read back."""
