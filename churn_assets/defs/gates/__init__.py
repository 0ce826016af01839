"""What may be made or moved: checks, gates behind failed checks, decisions about the champion."""
