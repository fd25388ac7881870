"""The collector and the waterfall of docs/trace.py, which is a script and in no package."""

from __future__ import annotations

import importlib.util
import sys

from app.settings import ROOT

_spec = importlib.util.spec_from_file_location("searchbar_docs_trace", ROOT / "docs" / "trace.py")
assert _spec is not None and _spec.loader is not None
trace = importlib.util.module_from_spec(_spec)
sys.modules[_spec.name] = trace
_spec.loader.exec_module(trace)
