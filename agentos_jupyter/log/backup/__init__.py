"""Backups of a workspace while it works: what one holds, how it is made by a process of its own, and how it is laid out again."""
