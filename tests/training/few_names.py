"""Run in the training environment: `searchbar`, which chooses fixed scales by 32 names instead of 384.

Random weights make no use of more, and a network of bart-base's size takes half a minute for them.
"""

from __future__ import annotations

from app.cli import main
from training import calibration

calibration.ITEMS = 32
main()
