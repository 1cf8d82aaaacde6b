"""The local environment: the AWS emulator, the function host, and the supervisor that keeps both."""
