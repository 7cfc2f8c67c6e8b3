"""What it cost."""

from __future__ import annotations

from claude_comms.accounting.prices import ModelPrice, PriceTable, Rates

__all__ = ["ModelPrice", "PriceTable", "Rates"]
