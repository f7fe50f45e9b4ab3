"""The tree: runtime, supervision, discovery."""
