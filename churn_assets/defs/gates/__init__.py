"""Asset checks, gates behind failed checks, and decisions about the champion."""
