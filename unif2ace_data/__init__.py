"""Raw photographs to verified face image-text shards. `unif2ace-data --help` lists the commands."""

__version__ = "0.1.0"
