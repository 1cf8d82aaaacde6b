"""Would an input get through, and could one be lost? Checks of what AWS says about a stack's components."""
