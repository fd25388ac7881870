"""Other servers of the same embedder, each as its own documentation has it; `roster.py` lists them.

The scripts here run in environments of their own (`make compare`) and import nothing of Searchbar: only each other.
"""
