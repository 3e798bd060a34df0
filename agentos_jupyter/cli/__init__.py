"""The terminal's front end: `agentos VERB …`, one module a verb."""
