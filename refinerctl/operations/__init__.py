"""One module per use case: typed input and clients in, frozen result out. No printing, no exiting."""
