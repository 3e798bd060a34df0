"""AgentOS for Jupyter: an operating system for AI agents that lives in notebooks."""

__version__ = "0.1.0"
