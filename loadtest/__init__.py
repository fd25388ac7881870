"""Load tests: traffic as a search bar sees it, generators, and the comparison with other servers."""
