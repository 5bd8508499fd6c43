"""The HTTP API of a site: `lexiseg serve`. See docs/api.md."""
