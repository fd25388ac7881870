"""`searchbar tune`: which instance counts, batch sizes and queue delays Triton should serve with on this machine."""
