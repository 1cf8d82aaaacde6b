"""The endpoint of services whose answers the emulator gets wrong: `docs/local.md` lists each correction."""
