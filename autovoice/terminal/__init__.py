"""Text for people: tables, escaping, and overrides as they are typed."""
