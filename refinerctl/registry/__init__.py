"""Container registries over the OCI distribution API: https://github.com/opencontainers/distribution-spec"""
