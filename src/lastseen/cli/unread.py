"""What an import could not read: bad lines, of which the first are shown, and files that break off."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from lastseen.cli.files import FileProgress

SHOWN_BAD_LINES = 10


@dataclass(slots=True)
class Unread:
    """What an import could not read so far."""

    bad_lines: int = 0
    first_bad_lines: list[dict[str, Any]] = field(default_factory=list)
    unreadable: list[dict[str, str]] = field(default_factory=list)
    """Files of which the rest could not be read, and why."""

    def note_bad_line(self, file: str, number: int, reason: str, progress: FileProgress) -> None:
        """Count a bad line, and show it if it is one of the first."""
        self.bad_lines += 1
        if self.bad_lines <= SHOWN_BAD_LINES:
            self.first_bad_lines.append({"file": file, "line": number, "reason": reason})
            progress.say(f"{file}:{number}: {reason}")
        elif self.bad_lines == SHOWN_BAD_LINES + 1:
            progress.say("further bad lines are only counted")

    def note_unreadable(self, file: str, error: Exception, progress: FileProgress) -> None:
        """Note and show that the rest of a file could not be read."""
        reason = getattr(error, "strerror", None) or str(error)
        self.unreadable.append({"file": file, "reason": reason})
        progress.say(f"{file}: {reason}; what came before is imported")

    def count_of_bad_lines(self) -> str:
        """Say how many bad lines there were."""
        return f"{self.bad_lines:,} bad line{'' if self.bad_lines == 1 else 's'}"
