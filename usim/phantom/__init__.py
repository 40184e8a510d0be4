"""The phantom language: description, strict loading, random draws, and the scene evaluated at points."""
