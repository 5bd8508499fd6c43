"""Importing this module sets the switches that keep libraries from calling home; they are read when a library is
imported, so it is imported before any of them."""

from __future__ import annotations

from parsers.offline import go_offline

go_offline()
