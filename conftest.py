"""What all of the project's tests share."""

from __future__ import annotations

from hypothesis import settings

# Time decides no test: a machine that is busy is no defect.
settings.register_profile("steady", deadline=None)
settings.load_profile("steady")
