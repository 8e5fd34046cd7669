"""A module file that is found and cannot be imported."""

import absent_library  # noqa: F401
