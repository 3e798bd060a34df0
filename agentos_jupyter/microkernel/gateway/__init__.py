"""The gateway: a child of the daemon that runs litellm and the person's own functions, and is started when first needed.

`process` is the daemon's side. Everything else runs in the child, whose environment is empty but for what reaches the
network: a key travels with the one call that needs it. The messages of a call travel beside it, in memory that the
daemon hands over with a file descriptor, because a frame holds 4 MiB and a context may be larger.
"""
