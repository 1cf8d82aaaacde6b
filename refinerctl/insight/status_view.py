"""Where `seconds` was."""

from refinerctl.tables import seconds as seconds
